//! JSON Patch as the API server applies it: `test`, `add` and `replace`, all or nothing.

use serde_json::Value;

/// Applies a patch, or says which operation did not hold and changes nothing.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), String> {
    let mut next = object.clone();
    for operation in patch.as_array().ok_or("a JSON Patch is a list")? {
        one(&mut next, operation).ok_or_else(|| operation.to_string())?;
    }
    *object = next;
    Ok(())
}

fn one(object: &mut Value, operation: &Value) -> Option<()> {
    let path = operation.get("path")?.as_str()?;
    let value = operation.get("value")?;
    match operation.get("op")?.as_str()? {
        // A field that is absent equals null, as in the library of the API server.
        "test" => (object.pointer(path).unwrap_or(&Value::Null) == value).then_some(()),
        "replace" => {
            *object.pointer_mut(path)? = value.clone();
            Some(())
        }
        "add" => {
            let (parent, key) = path.rsplit_once('/')?;
            let key = key.replace("~1", "/").replace("~0", "~");
            let parent = object.pointer_mut(parent)?.as_object_mut()?;
            parent.insert(key, value.clone());
            Some(())
        }
        _ => None,
    }
}
