//! What mails say. Templates in plain text; `{name}` and its like are filled in.
//!
//! A link carries its token behind `#`, so that neither a server on the way nor the next page's `Referer` sees it. The token stands by
//! itself too, for clients without a page to open.

use super::Mail;

const RESET: &str = "\
Hello {name},

somebody, you we hope, asked for a new password for your account {name}.
This link lets you choose one. It works once, and for {minutes} minutes:

{url}/reset#token={token}

For a program, the token by itself:

{token}

If it was not you, do nothing: your password stays as it is.
";

const VERIFY: &str = "\
Hello {name},

the account {name} wants to use this address. Confirm that it is yours
by this link. It works once, and for {minutes} minutes:

{url}/verify#token={token}

For a program, the token by itself:

{token}

If you have no such account, do nothing: the address is then not used.
";

const PASSWORD_CHANGED: &str = "\
Hello {name},

the password of your account {name} was just changed, and all its other
devices were signed out.

If it was not you, choose a new one at once:

{url}/forgot
";

const EMAIL_CHANGED: &str = "\
Hello {name},

your account {name} uses another address than this one from now on.

If it was not you, tell the operator of this server.
";

/// Who a mail is for, and where links lead.
#[derive(Clone, Copy)]
pub struct For<'a> {
    /// The address.
    pub to: &'a str,
    /// The account's name.
    pub name: &'a str,
    /// What links begin with (`mail.public_url`).
    pub url: &'a str,
}

/// A link, and how long it works.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    /// The one-time token.
    pub token: &'a str,
    /// Seconds it works.
    pub ttl_s: u64,
}

fn fill(template: &str, who: For<'_>, link: Option<Link<'_>>, subject: &str) -> Mail {
    let mut text = template.replace("{name}", who.name).replace("{url}", who.url);
    if let Some(link) = link {
        text = text.replace("{token}", link.token).replace("{minutes}", &link.ttl_s.div_ceil(60).to_string());
    }
    Mail { to: who.to.into(), subject: subject.into(), text }
}

/// A link to choose a new password.
pub fn reset(who: For<'_>, link: Link<'_>) -> Mail {
    fill(RESET, who, Some(link), "A new password")
}

/// A link that proves that an address is the account's.
pub fn verify(who: For<'_>, link: Link<'_>) -> Mail {
    fill(VERIFY, who, Some(link), "Confirm your address")
}

/// That the password was changed.
pub fn password_changed(who: For<'_>) -> Mail {
    fill(PASSWORD_CHANGED, who, None, "Your password was changed")
}

/// To the address before, that it is no longer used.
pub fn email_changed(who: For<'_>) -> Mail {
    fill(EMAIL_CHANGED, who, None, "Your address was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_in() {
        let who = For { to: "a@example.org", name: "alice", url: "https://chat.example" };
        let link = Link { token: "hbo_abc", ttl_s: 3600 };
        for mail in [reset(who, link), verify(who, link), password_changed(who), email_changed(who)] {
            assert!(!mail.text.contains(['{', '}']) && mail.text.contains("alice") && mail.to == "a@example.org", "{}", mail.text);
            assert!(mail.text.lines().all(|l| l.len() <= 78), "a line is too long for some readers:\n{}", mail.text);
        }
        assert!(
            reset(who, link).text.contains("https://chat.example/reset#token=hbo_abc\n") && reset(who, link).text.contains("60 minutes")
        );
    }
}
