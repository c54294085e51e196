//! Mail to a mail server, by `lettre`; and how a mail looks on the wire, for the outbox too.

use super::{Mail, MailError, Transport};
use crate::config::{self, SmtpTls};
use async_trait::async_trait;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::time::Duration;

/// Bytes of a line that any mail server takes (RFC 5322).
const LINE_BYTES_MAX: usize = 998;

/// A mail server. A connection for each mail: they are few, and none is held open for the next.
pub(super) struct Smtp {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// The configured sender.
pub(super) fn sender(config: &config::Mail) -> Result<Mailbox, String> {
    config.from.parse().map_err(|e| format!("mail.from: {e}"))
}

impl Smtp {
    pub(super) fn new(config: &config::Mail) -> Result<Smtp, String> {
        let host = config.smtp_host.as_str();
        let failed = |e: lettre::transport::smtp::Error| format!("mail.smtp_host: {e}");
        let builder = match config.smtp_tls {
            SmtpTls::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host).map_err(failed)?,
            SmtpTls::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host).map_err(failed)?,
            SmtpTls::None => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host),
        };
        let builder = builder.timeout(Some(Duration::from_millis(config.timeout_ms)));
        let builder = if config.smtp_port == 0 { builder } else { builder.port(config.smtp_port) };
        let builder = match config.smtp_user.is_empty() {
            true => builder,
            false => builder.credentials(Credentials::new(config.smtp_user.clone(), config.smtp_password.clone())),
        };
        Ok(Smtp { server: builder.build(), from: sender(config)? })
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn deliver(&self, mail: &Mail) -> Result<(), MailError> {
        let message = message(mail, &self.from)?;
        self.server.send(message).await.map(drop).map_err(|error| match error.is_permanent() {
            true => MailError::Never(error.to_string()),
            false => MailError::Later(error.to_string()),
        })
    }
}

/// A mail with its headers.
pub(super) fn message(mail: &Mail, from: &Mailbox) -> Result<Message, MailError> {
    // What it is about is said, and not the address: this ends in the log.
    let unusable = |what: &str| MailError::Never(format!("a mail cannot be written: {what}"));
    let to: Address = mail.to.parse().map_err(|_| unusable("its address"))?;
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(mail.subject.clone())
        .message_id(Some(format!("<{:032x}@{}>", rand::random::<u128>(), from.email.domain())))
        .header(ContentType::TEXT_PLAIN)
        .body(body(&mail.text))
        .map_err(|e| unusable(&e.to_string()))
}

/// The text as it goes out. What may go as it is does: `lettre` would break lines of more than 76 bytes by quoted-printable, and a link
/// is longer; who reads the outbox could not copy it.
fn body(text: &str) -> Body {
    let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let plain = text.is_ascii() && !text.contains('\0') && text.split("\r\n").all(|line| line.len() <= LINE_BYTES_MAX);
    if plain { Body::dangerous_pre_encoded(text.into_bytes(), ContentTransferEncoding::SevenBit) } else { Body::new(text) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_mail_becomes_a_header_of_its_own() {
        let from = sender(&config::Mail::default()).unwrap();
        let mail = |to: &str, subject: &str| Mail { to: to.into(), subject: subject.into(), text: "line\n.\nline".into() };
        let written = message(&mail("a@example.org", "hello"), &from).unwrap().formatted();
        let text = String::from_utf8(written).unwrap();
        assert!(text.contains("To: a@example.org\r\n") && text.contains("Subject: hello\r\n") && text.contains("Message-ID: <"), "{text}");
        for bad in ["a@example.org\r\nBcc: b@example.org", "a@example.org, b@example.org", "a", "", "a@b@c"] {
            assert!(matches!(message(&mail(bad, "hello"), &from), Err(MailError::Never(_))), "{bad:?}");
        }
        let written = message(&mail("a@example.org", "x\r\nBcc: b@example.org"), &from).unwrap().formatted();
        assert!(!String::from_utf8(written).unwrap().contains("\r\nBcc:"));
    }

    #[test]
    fn a_link_is_in_one_line_and_what_no_server_takes_as_it_is_is_encoded() {
        let from = sender(&config::Mail::default()).unwrap();
        let written = |text: &str| {
            let mail = Mail { to: "a@example.org".into(), subject: "s".into(), text: text.into() };
            String::from_utf8(message(&mail, &from).unwrap().formatted()).unwrap()
        };
        let link = format!("https://chat.example/a/long/way/to/reset#token=hbo_{}", "x".repeat(43));
        assert!(written(&format!("go\n{link}\n.\n")).contains(&format!("\r\n\r\ngo\r\n{link}\r\n.\r\n")));
        for odd in ["grüße", &"x".repeat(LINE_BYTES_MAX + 1), "\0"] {
            assert!(written(odd).is_ascii() && written(odd).lines().all(|line| line.len() <= LINE_BYTES_MAX), "{odd}");
        }
    }
}
