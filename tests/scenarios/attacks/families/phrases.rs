//! What approvers are told to paste into a shell must do nothing there.

use serde_json::{Value, json};

use crate::attack::{APPLY, Expect, Family, JSON, MERGE, PUT, Thing};
use crate::people::{ADMIN, POLICY_ADMIN};

const ITS: &[Thing] = &[Thing::Policy];

fn phrase(phrase: &str) -> Value {
    json!({"spec": {"approvals": {"confirmPhrase": phrase}}})
}

/// The phrase of a policy.
pub fn family() -> Family {
    let no = Expect::Schema("confirmPhrase");
    Family {
        name: "phrases",
        attacks: rows! {
            "a command", &[POLICY_ADMIN, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, phrase("ROLLBACK$(cmd) PRODUCTION"), no;
            "a command in backticks", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK `cmd`"), no;
            "a variable", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK $HOME"), no;
            "a single quote", &[POLICY_ADMIN], &[MERGE, APPLY], ITS, phrase("ROLLBACK'; cmd; 'PRODUCTION"), no;
            "a double quote", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK\"; cmd; \"PRODUCTION"), no;
            "a backslash", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK\\ PRODUCTION"), no;
            "a second command", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK; cmd"), no;
            "a pipe", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK | cmd"), no;
            "a file", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK > file"), no;
            "a command of the history", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK !!"), no;
            "a second line", &[POLICY_ADMIN], &[MERGE, PUT], ITS, phrase("ROLLBACK\ncmd"), no;
            "a dash in front", &[POLICY_ADMIN], &[MERGE], ITS, phrase("-ROLLBACK"), no;
            "a blank in front", &[POLICY_ADMIN], &[MERGE], ITS, phrase(" ROLLBACK"), no;
            "a blank behind", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLLBACK "), no;
            "other letters", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ＲＯＬＬＢＡＣＫ"), no;
            "text from right to left", &[POLICY_ADMIN], &[MERGE], ITS, phrase("ROLL\u{202e}BACK"), no;
        },
        twins: twins! {
            "words", &[POLICY_ADMIN, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, phrase("ROLLBACK THE SHOP");
            "small letters", &[POLICY_ADMIN], &[MERGE, APPLY], ITS, phrase("roll back");
            "harmless marks", &[POLICY_ADMIN], &[MERGE], ITS, phrase("shop/api: v1.2, roll_back-now");
            "one letter", &[POLICY_ADMIN], &[MERGE], ITS, phrase("Y");
        },
    }
}
