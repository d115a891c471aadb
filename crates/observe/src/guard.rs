//! What the guard has to be, for whoever looks whether it is: the controller before it counts an approval, and the
//! plugin when somebody asks what is wrong.

mod difference;
mod expected;

pub use expected::{Expected, GuardKind, Place, Unreadable};
