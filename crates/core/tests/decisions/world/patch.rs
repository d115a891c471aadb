//! JSON Patch as the API server applies it: `test`, `add`, `replace` and `remove`, all or nothing.

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
    match operation.get("op")?.as_str()? {
        // A field that is absent equals null, as in the library of the API server.
        "test" => {
            let value = operation.get("value")?;
            (object.pointer(path).unwrap_or(&Value::Null) == value).then_some(())
        }
        "replace" => {
            *object.pointer_mut(path)? = operation.get("value")?.clone();
            Some(())
        }
        "add" => {
            let (parent, key) = parent_of(path)?;
            let parent = object.pointer_mut(parent)?.as_object_mut()?;
            parent.insert(key, operation.get("value")?.clone());
            Some(())
        }
        "remove" => {
            let (parent, key) = parent_of(path)?;
            match object.pointer_mut(parent)? {
                Value::Array(items) => {
                    let index: usize = key.parse().ok()?;
                    (index < items.len()).then(|| items.remove(index))?;
                }
                Value::Object(map) => {
                    map.remove(&key)?;
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
            }
            Some(())
        }
        _ => None,
    }
}

fn parent_of(path: &str) -> Option<(&str, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((parent, key.replace("~1", "/").replace("~0", "~")))
}
