//! Questions to whoever sits at the terminal. They are asked on standard error, so that standard output has the answer
//! of the command only.

use std::io::{BufRead, IsTerminal, Write};

use crate::error::Error;

/// Whether somebody sits there who can be asked.
pub fn is_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a line.
pub fn line(question: &str) -> Result<String, Error> {
    let mut told = std::io::stderr().lock();
    write!(told, "{question} ").map_err(Error::Input)?;
    told.flush().map_err(Error::Input)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.map_err(Error::Input)? == 0 {
        return Err(Error::Unanswered(
            "Nobody answered, so nothing was done.".to_owned(),
        ));
    }
    Ok(answer.trim().to_owned())
}

/// Asks for a line until there is one, or takes what stands in brackets.
pub fn line_or(question: &str, usual: &str) -> Result<String, Error> {
    let answer = line(&format!("{question} [{usual}]:"))?;
    Ok(if answer.is_empty() {
        usual.to_owned()
    } else {
        answer
    })
}

/// Asks a question that is answered by yes; everything else is no.
pub fn agrees(question: &str) -> Result<bool, Error> {
    let answer = line(&format!("{question} [y/N]"))?;
    Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
}
