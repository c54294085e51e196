//! What `hubbub dev` puts into an empty store: users who are contacts, with a room, and what is printed of them.

use super::{DevOptions, NodeError};
use crate::actors::node::{NodeContext, now_ms};
use crate::actors::room::RoomMsg;
use crate::actors::router::Reply;
use crate::error::ApiError;
use crate::http::Api;
use crate::protocol::entry::RoomKind;
use crate::protocol::ids::{ClientId, DeviceId, RoomId};
use crate::protocol::ops::Create;
use crate::storage::{ContactState, UserRow};
use std::net::SocketAddr;

/// A demo token lives a day.
const TOKEN_MS: u64 = 24 * 3_600_000;

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::Failed(format!("demo data: {error}"))
}

/// Makes what is missing and prints addresses and tokens.
pub(super) async fn seed(node: &NodeContext, api: &Api, options: &DevOptions, address: SocketAddr) -> Result<(), NodeError> {
    let (mut users, mut new) = (Vec::new(), false);
    for name in &options.users {
        let (row, made) = account(node, api, name).await.map_err(failed)?;
        new |= made;
        users.push(row);
    }
    if new {
        for (i, a) in users.iter().enumerate() {
            for b in &users[i + 1..] {
                let both = Some(ContactState::Accepted);
                node.store.set_contact(a.user, b.user, both, both).await.map_err(failed)?;
            }
        }
        room(node, &users, &options.room).await?;
    }
    let mut tokens = Vec::new();
    for user in &users {
        let device = DeviceId(node.ids.one().await.map_err(failed)?);
        let (token, _) = api.sessions.issue(user, device, "hubbub dev", TOKEN_MS, now_ms()).await.map_err(failed)?;
        tokens.push((user.name.as_str(), token));
    }
    print(options, address, &tokens);
    Ok(())
}

async fn account(node: &NodeContext, api: &Api, name: &str) -> Result<(UserRow, bool), ApiError> {
    if let Ok(row) = api.accounts.by_name(name).await {
        return Ok((row, false));
    }
    let id = crate::protocol::ids::UserId(node.ids.one().await?);
    // Nobody needs to know it: `hubbub dev` listens on this machine only, and tokens are printed.
    let password = format!("{name}-{:032x}", rand::random::<u128>());
    Ok((api.accounts.create(id, name, &password).await?, true))
}

async fn room(node: &NodeContext, users: &[UserRow], name: &str) -> Result<(), NodeError> {
    let Some((owner, rest)) = users.split_first() else { return Ok(()) };
    let room = RoomId(node.ids.one().await.map_err(failed)?);
    let members = rest.iter().map(|u| u.user).collect();
    let create = Create { kind: RoomKind::Group, name: Some(name.into()), topic: None, members, cid: ClientId::fresh() };
    let (reply, answer) = Reply::task();
    node.router.to_room(room, RoomMsg::Create { by: owner.user, create: Box::new(create), reply });
    answer.await.map_err(failed)?.map_err(failed)?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what the command is for")]
fn print(options: &DevOptions, address: SocketAddr, tokens: &[(&str, String)]) {
    if options.json {
        println!("{}", serde_json::json!({ "url": format!("http://{address}"), "socket": format!("ws://{address}/v1/socket") }));
        for (name, token) in tokens {
            println!("{}", serde_json::json!({ "user": name, "token": token }));
        }
        return;
    }
    println!("Hubbub listens on http://{address} (sockets: ws://{address}/v1/socket)\n");
    for (name, token) in tokens {
        println!("{name}: hubbub chat --url http://{address} --token {token}\n");
    }
}
