//! Makes the users and rooms of a plan through the server's own interfaces, and says where every session sits.
//!
//! Users come from the operators' interface, so neither registration nor its rate limit stands in the way; a server under
//! test should hash passwords cheaply (`auth.argon2_memory_kib = 64`), and have its rate limits off. Every run uses fresh
//! names and fresh rooms: nothing of an earlier run is ever received.

use super::wire::{Dialect, Seat};
use super::{BenchError, Load, Plan, Target, node_of};
use crate::client::{ClientError, Connection, Options, Rest};
use crate::protocol::codec::Format;
use crate::protocol::entry::RoomKind;
use crate::protocol::ids::{ClientId, RoomId, UserId};
use crate::protocol::ops::{Create, InRoom, Request};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

/// Setup calls under way at one time: more would only queue behind the server's password hashing.
const CALLS_MAX: usize = 16;
/// Users that idle sessions are spread over.
const IDLE_USERS_MAX: usize = 1_000;
/// Members that one `create` takes (the protocol's limit), the creator not counted.
const CREATE_MEMBERS_MAX: usize = 1_000;
/// Seconds that tokens of a run are valid.
const TOKEN_TTL_S: u64 = 86_400;

/// Everything the driver needs.
pub struct Stage {
    /// Where to connect: every node.
    pub addresses: Vec<SocketAddr>,
    /// What to speak.
    pub dialect: Dialect,
    /// The server's processes, to measure them; none when they are elsewhere.
    pub pids: Vec<u32>,
    /// One per session, in the order of opening.
    pub seats: Vec<Seat>,
}

#[derive(Deserialize)]
struct NodeFile {
    pid: u32,
    http: SocketAddr,
    admin: SocketAddr,
}

struct Server {
    url: String,
    admin: Rest,
    admin_token: String,
}

#[derive(Clone)]
struct User {
    id: UserId,
    token: String,
}

/// Prepares the target for the plan.
pub fn stage(plan: &Plan, target: &Target) -> Result<Stage, BenchError> {
    let (servers, pids): (Vec<Server>, Vec<u32>) = match target {
        Target::Bare { address, pid } => {
            let pids = pid.iter().copied().collect();
            return Ok(Stage { addresses: vec![*address], dialect: Dialect::Bare, pids, seats: bare_seats(plan) });
        }
        Target::Nodes(data_dirs) => data_dirs.iter().map(|dir| of_node(dir)).collect::<Result<Vec<_>, _>>()?.into_iter().unzip(),
        Target::Server { url, admin_url, admin_token, pid } => {
            let server = Server { url: url.clone(), admin: Rest::new(admin_url), admin_token: admin_token.clone() };
            (vec![server], pid.iter().copied().collect())
        }
    };
    let addresses = servers.iter().map(|server| resolve(&server.url)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = servers.first() else { return Err(BenchError::Target("no node is named".into())) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seats = runtime.block_on(first.seats(plan, addresses.len()))?;
    Ok(Stage { addresses, dialect: Dialect::Hubbub, pids, seats })
}

fn of_node(data_dir: &Path) -> Result<(Server, u32), BenchError> {
    let read = |name: &str| {
        let path = data_dir.join(name);
        std::fs::read_to_string(&path)
            .map_err(|e| BenchError::Target(format!("{}: {e}; is a node running on this directory?", path.display())))
    };
    let node: NodeFile = serde_json::from_str(&read("node.json")?).map_err(|e| BenchError::Target(format!("node.json: {e}")))?;
    let admin = Rest::new(&format!("http://{}", node.admin));
    let server = Server { url: format!("http://{}", node.http), admin, admin_token: read("secrets/admin.token")?.trim().to_owned() };
    Ok((server, node.pid))
}

fn resolve(url: &str) -> Result<SocketAddr, BenchError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://")).unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or(rest);
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let found = with_port.to_socket_addrs().map_err(|e| BenchError::Target(format!("{url}: {e}")))?.next();
    found.ok_or_else(|| BenchError::Target(format!("{url} has no address")))
}

fn bare_seats(plan: &Plan) -> Vec<Seat> {
    let seat = |index| Seat { index, node: 0, room: RoomId::default(), token: String::new() };
    match plan.load {
        Load::Idle { to, .. } => (0..to).map(|i| seat(i / plan.members)).collect(),
        _ => (0..plan.rooms * plan.members).map(|i| seat(i % plan.rooms)).collect(),
    }
}

impl Server {
    async fn seats(&self, plan: &Plan, nodes: usize) -> Result<Vec<Seat>, BenchError> {
        let (rooms, per_room) = match plan.load {
            Load::Idle { to, .. } => {
                let users = to.min(IDLE_USERS_MAX);
                (users.div_ceil(plan.members), plan.members)
            }
            _ => (plan.rooms, plan.users_per_room),
        };
        let users = self.users(rooms * per_room).await?;
        let groups: Vec<Vec<User>> = users.chunks(per_room).map(<[User]>::to_vec).collect();
        let ids: Vec<RoomId> = stream::iter(groups.clone()).map(|g| self.room(g)).buffered(CALLS_MAX).try_collect().await?;
        let seat = |index: usize, of: usize| {
            let user = &groups[index][of % per_room];
            Seat { index, node: node_of(of, nodes), room: ids[index], token: user.token.clone() }
        };
        Ok(match plan.load {
            Load::Idle { to, .. } => (0..to).map(|i| seat(i % rooms, i / rooms)).collect(),
            // Round by round over the rooms: seat i is member i / rooms of room i % rooms.
            _ => (0..rooms * plan.members).map(|i| seat(i % rooms, i / rooms)).collect(),
        })
    }

    async fn users(&self, count: usize) -> Result<Vec<User>, ClientError> {
        #[derive(Deserialize)]
        struct Added {
            user: UserId,
        }
        #[derive(Deserialize)]
        struct Issued {
            token: String,
        }
        let run: u32 = rand::random();
        let make = |i: usize| async move {
            let name = format!("bench-{run:08x}-{i}");
            let password = format!("{:032x}", rand::random::<u128>());
            let admin = Some(self.admin_token.as_str());
            let added: Added = self.admin.post("/admin/users", admin, json!({"name": name, "password": password})).await?;
            let issued: Issued = self.admin.post(&format!("/admin/users/{name}/token"), admin, json!({"ttl_s": TOKEN_TTL_S})).await?;
            Ok(User { id: added.user, token: issued.token })
        };
        stream::iter(0..count).map(make).buffered(CALLS_MAX).try_collect().await
    }

    /// Makes a room of these users: a group, or, when it is too large for one, a channel that they join.
    async fn room(&self, users: Vec<User>) -> Result<RoomId, ClientError> {
        let Some((first, others)) = users.split_first() else { return Err(ClientError::Unusable("a room needs a member".into())) };
        let group = others.len() < CREATE_MEMBERS_MAX;
        let create = Create {
            kind: if group { RoomKind::Group } else { RoomKind::Channel },
            name: Some("bench".into()),
            topic: None,
            members: if group { others.iter().map(|u| u.id).collect() } else { Vec::new() },
            cid: ClientId::fresh(),
        };
        let room = self
            .once(first, Request::Create(create))
            .await?
            .ok_or_else(|| ClientError::Unusable("the server did not name the room".into()))?;
        if !group {
            let join =
                |u: User| async move { self.once(&u, Request::Join(InRoom { room, cid: ClientId::fresh(), since: 0 })).await.map(drop) };
            stream::iter(others.to_vec()).map(join).buffer_unordered(CALLS_MAX).try_collect::<Vec<()>>().await?;
        }
        Ok(room)
    }

    /// One request on a socket of its own; the room in the answer.
    async fn once(&self, user: &User, request: Request) -> Result<Option<RoomId>, ClientError> {
        let (connection, _pushes) = Connection::open(&self.url, &user.token, Format::Msgpack, &Options::default()).await?;
        let reply = connection.request(request).await;
        connection.close().await;
        reply.map(|r| r.room)
    }
}
