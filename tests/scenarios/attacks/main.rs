//! Attacks on the rules about who may ask, approve, deny, withdraw and write, each refused by the API server itself.
//!
//! The attacks are data ([`families`]): who, how, on what, with what, and why it must not work. Each family has allowed
//! twins, so that a refusal means the rule and not a typo. The stage ([`stage`]) has requests in every moment of
//! their life; no controller runs there, so that each moment lasts. What people read is kept in `messages.txt`.

mod attack;
mod families;
mod fire;
mod flows;
mod holes;
mod messages;
mod people;
mod powers;
mod printed;
mod stage;
mod table;
