//! What a person types: a line is a message, or a command when it begins with `/`. Pure.

use crate::protocol::ids::Seq;

/// Shown by `/help`.
pub const HELP: &str = "a line is a message; //text begins one with a slash
/rooms                 your rooms
/join NAME or ID       go to a room of yours, or join a channel by its id
/with NAME             the direct room with somebody
/create NAME           a new group
/invite NAME           bring somebody into this room
/history [N]           the newest N messages of this room, with their numbers
/edit NUMBER TEXT      change a message of yours
/delete NUMBER         delete a message
/react NUMBER EMOJI    react to a message; /unreact takes it back
/who                   who is in this room
/quit                  leave";

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing typed.
    Nothing,
    /// A message.
    Text(String),
    /// `/help`
    Help,
    /// `/rooms`
    Rooms,
    /// `/join ID`
    Join(String),
    /// `/with NAME`
    With(String),
    /// `/create NAME`
    Create(String),
    /// `/invite NAME`
    Invite(String),
    /// `/history [N]`
    History(u32),
    /// `/edit SEQ TEXT`
    Edit(Seq, String),
    /// `/delete SEQ`
    Delete(Seq),
    /// `/react SEQ EMOJI`, `/unreact SEQ EMOJI`
    React(Seq, String, bool),
    /// `/who`
    Who,
    /// `/quit`
    Quit,
}

/// Understands a line, or says how it should look.
pub fn parse(line: &str) -> Result<Input, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Ok(Input::Nothing);
    }
    let Some(command) = line.strip_prefix('/') else { return Ok(Input::Text(line.into())) };
    if command.starts_with('/') {
        return Ok(Input::Text(command.into()));
    }
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    let word = || if rest.is_empty() { Err(format!("/{name} needs something behind it; /help shows how")) } else { Ok(rest.to_owned()) };
    let numbered = || {
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let seq =
            number.parse::<Seq>().map_err(|_| format!("/{name} needs the number of a message (/history shows them), not {number:?}"))?;
        Ok::<_, String>((seq, text.trim().to_owned()))
    };
    Ok(match name {
        "help" | "?" => Input::Help,
        "rooms" => Input::Rooms,
        "join" => Input::Join(word()?),
        "with" => Input::With(word()?),
        "create" => Input::Create(word()?),
        "invite" => Input::Invite(word()?),
        "history" if rest.is_empty() => Input::History(20),
        "history" => Input::History(rest.parse().ok().filter(|n| (1..=200).contains(n)).ok_or("/history takes a number from 1 to 200")?),
        "edit" => match numbered()? {
            (_, text) if text.is_empty() => return Err("/edit needs the new text behind the number".into()),
            (seq, text) => Input::Edit(seq, text),
        },
        "delete" => Input::Delete(numbered()?.0),
        "react" | "unreact" => match numbered()? {
            (_, emoji) if emoji.is_empty() => return Err(format!("/{name} needs an emoji behind the number")),
            (seq, emoji) => Input::React(seq, emoji, name == "react"),
        },
        "who" => Input::Who,
        "quit" | "exit" => Input::Quit,
        _ => return Err(format!("there is no command /{name}; /help shows them")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_and_commands() {
        for (line, expected) in [
            ("hello there\n", Input::Text("hello there".into())),
            ("//me is a message", Input::Text("/me is a message".into())),
            ("  \r\n", Input::Nothing),
            ("/rooms", Input::Rooms),
            ("/join 42", Input::Join("42".into())),
            ("/with bob", Input::With("bob".into())),
            ("/create the old house", Input::Create("the old house".into())),
            ("/history", Input::History(20)),
            ("/history 5", Input::History(5)),
            ("/edit 3 new text here", Input::Edit(3, "new text here".into())),
            ("/delete 3", Input::Delete(3)),
            ("/react 3 \u{1f44d}", Input::React(3, "\u{1f44d}".into(), true)),
            ("/unreact 3 +1", Input::React(3, "+1".into(), false)),
            ("/quit", Input::Quit),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        for (line, named) in [
            ("/join", "/help"),
            ("/with", "/help"),
            ("/edit x y", "number of a message"),
            ("/edit 3", "new text"),
            ("/react 3", "emoji"),
            ("/history 1000", "1 to 200"),
            ("/dance", "/dance"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(named), "{line:?}: {error}");
        }
    }
}
