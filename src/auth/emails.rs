//! E-mail addresses of accounts: optional, one an account, and of one account only once it has shown that it reads mail there.
//!
//! The `email` table says whose an address is; an account's own record says which address it has and which one it wants. An address is
//! an account's when both agree: so that neither a change that was killed in the middle nor two accounts at once can share one.

use super::onetime::no_such_link;
use super::rows::Row;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use crate::storage::{Records, Table};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of an address at most (RFC 5321, 4.5.3.1.3, without the brackets).
const BYTES_MAX: usize = 254;
const KIND: &str = "email";

/// An account's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The address.
    pub address: String,
    /// Whether the account has shown that it reads mail there.
    pub verified: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    verified: Option<String>,
    wanted: Option<String>,
}

/// The addresses.
#[derive(Clone)]
pub struct Emails(Arc<dyn Records>);

/// An address as it is compared and kept: lower case, whatever its form. `Invalid` for what is no address.
pub fn normalized(address: &str) -> Result<String, ApiError> {
    let fine = address.len() <= BYTES_MAX && address.is_ascii() && address.parse::<lettre::Address>().is_ok();
    if fine { Ok(address.to_ascii_lowercase()) } else { Err(ApiError::new(Code::Invalid, "this is not an e-mail address")) }
}

fn row(user: UserId) -> Row {
    Row::of_account(user, KIND)
}

fn claim(address: &str) -> Row {
    Row::only(Table::Email, address.as_bytes())
}

impl Emails {
    /// Over a store.
    pub fn new(store: Arc<dyn Records>) -> Emails {
        Emails(store)
    }

    async fn kept(&self, user: UserId) -> Result<Kept, ApiError> {
        Ok(row(user).read(&*self.0).await?.unwrap_or_default())
    }

    /// The account's address: the verified one, else the one it wants.
    pub async fn of(&self, user: UserId) -> Result<Option<Email>, ApiError> {
        let kept = self.kept(user).await?;
        if let Some(address) = kept.verified
            && claim(&address).read::<UserId>(&*self.0).await? == Some(user)
        {
            return Ok(Some(Email { address, verified: true }));
        }
        Ok(kept.wanted.map(|address| Email { address, verified: false }))
    }

    /// The address to which links may be sent.
    pub async fn verified(&self, user: UserId) -> Result<Option<String>, ApiError> {
        Ok(self.of(user).await?.filter(|e| e.verified).map(|e| e.address))
    }

    /// Whose the address is, by a verified one only. What is no address is nobody's.
    pub async fn owner(&self, address: &str) -> Result<Option<UserId>, ApiError> {
        let Ok(address) = normalized(address) else { return Ok(None) };
        let Some(user) = claim(&address).read::<UserId>(&*self.0).await? else { return Ok(None) };
        Ok((self.kept(user).await?.verified.as_deref() == Some(&address)).then_some(user))
    }

    /// Notes that the account wants an address (as [`normalized`] gives it); it keeps the one it has until that is verified.
    pub async fn want(&self, user: UserId, address: &str) -> Result<(), ApiError> {
        let step = |was: Option<Kept>| Ok((Some(Kept { wanted: Some(address.into()), ..was.unwrap_or_default() }), ()));
        row(user).change(&*self.0, step).await
    }

    /// Makes a wanted address the account's. `Conflict` when it is another's. Returns the one before, if there was another.
    pub async fn verify(&self, user: UserId, address: &str) -> Result<Option<String>, ApiError> {
        let kept = self.kept(user).await?;
        if kept.verified.as_deref() != Some(address) && kept.wanted.as_deref() != Some(address) {
            return Err(no_such_link());
        }
        let other = claim(address).read::<UserId>(&*self.0).await?.filter(|other| *other != user);
        if let Some(other) = other
            && self.kept(other).await?.verified.as_deref() == Some(address)
        {
            return Err(ApiError::new(Code::Conflict, "this address belongs to another account"));
        }
        let take = |was: Option<UserId>| match was {
            // Whom it belonged to was looked at above and has gone on to another address; anybody else was quicker.
            Some(now) if now != user && Some(now) != other => Err(ApiError::new(Code::Conflict, "this address belongs to another account")),
            _ => Ok((Some(user), ())),
        };
        claim(address).change(&*self.0, take).await?;
        let settle = |was: Option<Kept>| {
            let was = was.unwrap_or_default();
            let wanted = was.wanted.clone().filter(|wanted| wanted != address);
            Ok((Some(Kept { verified: Some(address.into()), wanted }), was.verified))
        };
        let before = row(user).change(&*self.0, settle).await?.filter(|before| before != address);
        if let Some(before) = &before {
            self.release(user, before).await?;
        }
        Ok(before)
    }

    /// Takes the account's address away, the wanted one too. Returns the verified one.
    pub async fn remove(&self, user: UserId) -> Result<Option<String>, ApiError> {
        let before = row(user).change(&*self.0, |was: Option<Kept>| Ok((None, was.and_then(|k| k.verified)))).await?;
        if let Some(before) = &before {
            self.release(user, before).await?;
        }
        Ok(before)
    }

    async fn release(&self, user: UserId, address: &str) -> Result<(), ApiError> {
        claim(address).change(&*self.0, |was: Option<UserId>| Ok((was.filter(|owner| *owner != user), ()))).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::tests::store;

    #[test]
    fn an_address_is_ascii_lower_case_and_one() {
        assert_eq!(normalized("Alice@Example.ORG").unwrap(), "alice@example.org");
        assert!(normalized("a@localhost").is_ok());
        let long = format!("{}@example.org", "a".repeat(250));
        for bad in ["", "a", "a@", "@b", "a b@c.d", "a@b.c, d@e.f", "a@b.c\r\nBcc: d@e.f", "älice@example.org", &long] {
            assert_eq!(normalized(bad).unwrap_err().code, Code::Invalid, "{bad:?}");
        }
    }

    #[actix_rt::test]
    async fn an_address_is_of_one_account_once_it_is_verified() {
        let (store, _dir) = store();
        let emails = Emails::new(store);
        let (alice, bob) = (UserId(1), UserId(2));
        for user in [alice, bob] {
            emails.want(user, "a@x.org").await.unwrap();
            assert_eq!(
                emails.of(user).await.unwrap(),
                Some(Email { address: "a@x.org".into(), verified: false }),
                "wanting hinders nobody"
            );
        }
        assert_eq!(emails.owner("a@x.org").await.unwrap(), None);
        assert_eq!(emails.verify(alice, "a@x.org").await.unwrap(), None);
        assert_eq!(emails.verify(alice, "a@x.org").await.unwrap(), None, "the same again");
        assert_eq!(emails.verify(bob, "a@x.org").await.unwrap_err().code, Code::Conflict);
        assert_eq!(emails.owner("A@X.org").await.unwrap(), Some(alice));
        assert_eq!(emails.verify(alice, "b@x.org").await.unwrap_err().code, Code::Invalid, "an address that she does not want");
        emails.want(alice, "b@x.org").await.unwrap();
        assert_eq!(emails.verified(alice).await.unwrap().as_deref(), Some("a@x.org"), "the old one until then");
        assert_eq!(emails.verify(alice, "b@x.org").await.unwrap().as_deref(), Some("a@x.org"));
        assert_eq!(emails.verify(bob, "a@x.org").await.unwrap(), None, "it is free again");
        assert_eq!(emails.remove(alice).await.unwrap().as_deref(), Some("b@x.org"));
        assert_eq!((emails.of(alice).await.unwrap(), emails.owner("b@x.org").await.unwrap()), (None, None));
    }

    #[actix_rt::test]
    async fn of_many_who_verify_an_address_at_once_one_has_it() {
        let (store, _dir) = store();
        let emails = Emails::new(store);
        for round in 0..20 {
            let address = format!("a{round}@x.org");
            let users: Vec<UserId> = (0..4).map(|n| UserId(round * 10 + n + 1)).collect();
            for user in &users {
                emails.want(*user, &address).await.unwrap();
            }
            futures_util::future::join_all(users.iter().map(|user| emails.verify(*user, &address))).await;
            let mut has = 0;
            for user in &users {
                has += usize::from(emails.verified(*user).await.unwrap().is_some());
            }
            assert_eq!(has, 1);
        }
    }
}
