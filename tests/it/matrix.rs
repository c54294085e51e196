//! Who may do what: every request by everybody, through the socket and over HTTP, judged by one table each for rooms and for people.
//!
//! A cell is tried through each door it has, from the same state, and both must answer alike: the doors lead to the same rooms.
//! A few cells are worth a word: who blocks you is not there for you, also when you would invite it; everybody sees the links that are
//! its own, and those of others are not there for whom may not manage them.

use super::support::{RawSocket, TestNode, TestUser, http};
use serde_json::{Value, json};

/// `s`: over the socket, `r`: over HTTP. `+` done, `F` forbidden, `.` as if there were no such room or user, `C` conflict (the last owner
/// may not go), `U` unauthorized.
///
/// Columns of a direct room: one of the two; the other, whom the first blocks; a stranger; signed out.
/// Columns of a group and of a channel: owner, admin, moderator, member, a member whom the target blocks, reader, stranger, banned,
/// kicked, signed out.
const ROOMS: &str = "
    doors  request        direct  group       channel
    sr     send           ++.U    +++++F...U  +++++FFFFU
    sr     edit own       ++.U    +++++F...U  +++++FFFFU
    sr     edit other     FF.U    FFFFFF...U  FFFFFFFFFU
    sr     delete own     ++.U    +++++F...U  +++++FFFFU
    sr     delete other   FF.U    +++FFF...U  +++FFFFFFU
    sr     react          ++.U    +++++F...U  +++++FFFFU
    sr     unreact        ++.U    +++++F...U  +++++FFFFU
    sr     pin            ++.U    +++FFF...U  +++FFFFFFU
    sr     unpin          ++.U    +++FFF...U  +++FFFFFFU
    s      typing         ++.U    +++++F...U  +++++FFFFU
    sr     cursor         ++.U    ++++++...U  ++++++FFFU
    sr     history        ++.U    ++++++...U  ++++++FFFU
    sr     members        ++.U    ++++++...U  ++++++FFFU
    s      resume         ++.U    ++++++...U  ++++++...U
    r      room           ++.U    ++++++...U  ++++++FFFU
    r      message        ++.U    ++++++...U  ++++++FFFU
    r      thread         ++.U    ++++++...U  ++++++FFFU
    r      readers        ++.U    ++++++...U  ++++++FFFU
    r      receipts       ++.U    ++++++...U  ++++++FFFU
    r      pins           ++.U    ++++++...U  ++++++FFFU
    r      entries        ++.U    ++++++...U  ++++++FFFU
    r      own cursor     ++.U    ++++++...U  ++++++FFFU
    r      level          ++.U    ++++++...U  ++++++FFFU
    r      set level      ++.U    ++++++...U  ++++++FFFU
    r      bans           FF.U    +++FFF...U  +++FFFFFFU
    sr     update         FF.U    ++FFFF...U  ++FFFFFFFU
    sr     invite         F..U    ++++.F...U  ++++.FFFFU
    sr     kick           FF.U    +++FFF...U  +++FFFFFFU
    sr     ban            FF.U    +++FFF...U  +++FFFFFFU
    sr     unban          FF.U    +++FFF...U  +++FFFFFFU
    sr     role           FF.U    ++FFFF...U  ++FFFFFFFU
    sr     mute           FF.U    +++FFF...U  +++FFFFFFU
    sr     unmute         FF.U    +++FFF...U  +++FFFFFFU
    sr     transfer       FF.U    +FFFFF...U  +FFFFFFFFU
    r      make link      FF.U    +++++F...U  +++++FFFFU
    r      links          ++.U    ++++++...U  ++++++FFFU
    r      end link       ...U    +++......U  +++...FFFU
    r      see link       ...U    +++++++.+U  +++++++.+U
    r      use link       ...U    +++++++.+U  +++++++.+U
    sr     join           FF.U    FFFFFF...U  +++++++F+U
    sr     leave          FF.U    C+++++...U  C++++++++U
";

/// An answer of the socket as a letter.
fn heard(answer: &Value) -> char {
    match (answer["op"].as_str(), answer["code"].as_str()) {
        (Some("ok"), _) => '+',
        (_, Some("forbidden")) => 'F',
        (_, Some("not_found")) => '.',
        (_, Some("conflict")) => 'C',
        (_, Some("unauthorized")) => 'U',
        _ => '?',
    }
}

/// A status as a letter.
fn seen(status: u16) -> char {
    match status {
        200..300 => '+',
        401 => 'U',
        403 => 'F',
        404 => '.',
        409 => 'C',
        _ => '?',
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Socket,
    Rest,
}

/// What a request is about.
struct About {
    /// A message.
    seq: u64,
    /// A user.
    user: String,
    /// A link's code.
    code: String,
    /// Something that was not said before.
    fresh: String,
}

/// The request as the socket's op and fields.
fn as_op(request: &str, about: &About) -> (&'static str, Value) {
    let (seq, user) = (about.seq, &about.user);
    match request {
        "send" => ("send", json!({ "text": about.fresh })),
        "edit own" | "edit other" => ("edit", json!({ "seq": seq, "text": about.fresh })),
        "delete own" | "delete other" => ("delete", json!({ "seq": seq })),
        "react" | "unreact" => ("react", json!({ "seq": seq, "emoji": "👍", "on": request == "react" })),
        "pin" | "unpin" => ("pin", json!({ "seq": seq, "on": request == "pin" })),
        "typing" => ("typing", json!({ "on": true })),
        "cursor" => ("cursor", json!({ "read": 1 })),
        "history" => ("history", json!({})),
        "members" => ("members", json!({})),
        "update" => ("update", json!({ "topic": about.fresh })),
        "invite" => ("invite", json!({ "user": user })),
        "kick" => ("kick", json!({ "user": user })),
        "ban" => ("ban", json!({ "user": user })),
        "unban" => ("unban", json!({ "user": user })),
        "role" => ("role", json!({ "user": user, "role": "moderator" })),
        "mute" => ("mute", json!({ "user": user })),
        "unmute" => ("unmute", json!({ "user": user })),
        "transfer" => ("transfer", json!({ "user": user })),
        "join" => ("join", json!({})),
        "leave" => ("leave", json!({})),
        other => panic!("{other} has no op"),
    }
}

/// The request as method, address below the room (or from the root), and body.
fn as_call(request: &str, room: &str, about: &About) -> (&'static str, String, Value) {
    let (seq, user, code) = (about.seq, &about.user, &about.code);
    let none = Value::Null;
    let (method, at, body) = match request {
        "send" => ("POST", "/messages".into(), json!({ "text": about.fresh })),
        "edit own" | "edit other" => ("PATCH", format!("/messages/{seq}"), json!({ "text": about.fresh })),
        "delete own" | "delete other" => ("DELETE", format!("/messages/{seq}"), none),
        "react" => ("PUT", format!("/messages/{seq}/reactions/%F0%9F%91%8D"), none),
        "unreact" => ("DELETE", format!("/messages/{seq}/reactions/%F0%9F%91%8D"), none),
        "pin" => ("PUT", format!("/messages/{seq}/pin"), none),
        "unpin" => ("DELETE", format!("/messages/{seq}/pin"), none),
        "cursor" => ("PUT", "/cursor".into(), json!({ "read": 1 })),
        "history" => ("GET", "/messages".into(), none),
        "members" => ("GET", "/members".into(), none),
        "room" => ("GET", String::new(), none),
        "message" => ("GET", format!("/messages/{seq}"), none),
        "thread" => ("GET", format!("/messages/{seq}/thread"), none),
        "readers" => ("GET", format!("/messages/{seq}/readers"), none),
        "receipts" => ("GET", "/receipts".into(), none),
        "pins" => ("GET", "/pins".into(), none),
        "entries" => ("GET", "/entries".into(), none),
        "own cursor" => ("GET", "/cursor".into(), none),
        "level" => ("GET", "/notify".into(), none),
        "set level" => ("PUT", "/notify".into(), json!({ "level": "mentions" })),
        "bans" => ("GET", "/bans".into(), none),
        "update" => ("PATCH", String::new(), json!({ "topic": about.fresh })),
        "invite" => ("PUT", format!("/members/{user}"), none),
        "kick" => ("DELETE", format!("/members/{user}"), none),
        "ban" => ("PUT", format!("/bans/{user}"), none),
        "unban" => ("DELETE", format!("/bans/{user}"), none),
        "role" => ("PATCH", format!("/members/{user}"), json!({ "role": "moderator" })),
        "mute" => ("PUT", format!("/mutes/{user}"), none),
        "unmute" => ("DELETE", format!("/mutes/{user}"), none),
        "transfer" => ("POST", "/transfer".into(), json!({ "user": user })),
        "make link" => ("POST", "/invites".into(), none),
        "links" => ("GET", "/invites".into(), none),
        "end link" => ("DELETE", format!("/invites/{code}"), none),
        "see link" => return ("GET", format!("/v1/invites/{code}"), none),
        "use link" => return ("POST", format!("/v1/invites/{code}/accept"), none),
        "join" => ("POST", "/join".into(), none),
        "leave" => ("POST", "/leave".into(), none),
        other => panic!("{other} has no address"),
    };
    (method, format!("/v1/rooms/{room}{at}"), body)
}

/// A call over HTTP: its status and its body.
async fn call(node: &TestNode, token: Option<&str>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut head = format!("{method} {path} HTTP/1.1");
    if let Some(token) = token {
        head += &format!("\r\nAuthorization: Bearer {token}");
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    if !body.is_empty() {
        head += "\r\nContent-Type: application/json";
    }
    let answer = http(node.address(), &head, &body).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

struct Actor {
    is: &'static str,
    socket: RawSocket,
    /// Nobody's, when signed out.
    id: String,
    token: Option<String>,
    /// A message of its own, if it ever could send one.
    own: u64,
}

impl Actor {
    async fn new(node: &TestNode, kind: &str, is: &'static str) -> Actor {
        if is == "signed out" {
            return Actor { is, socket: RawSocket::json(node).await, id: "1".into(), token: None, own: 2 };
        }
        let user = node.user(&format!("{kind}-{is}").replace(' ', "-")).await;
        Actor { is, socket: RawSocket::live(node, &user).await, id: user.id.to_string(), token: Some(user.token), own: 2 }
    }
    fn is_outside(&self) -> bool {
        ["stranger", "banned", "kicked", "signed out"].contains(&self.is)
    }
}

struct Stage<'a> {
    node: &'a TestNode,
    kind: &'static str,
    room: String,
    /// In the order of the table's columns.
    actors: Vec<Actor>,
    /// Somebody whom others act upon; in a direct room the actors act upon each other.
    target: Actor,
    target_is: &'static str,
    said: u64,
}

impl<'a> Stage<'a> {
    async fn build(node: &'a TestNode, kind: &'static str) -> Stage<'a> {
        let roles: &[&str] = match kind {
            "direct" => &["one", "blocked", "stranger", "signed out"],
            _ => &["owner", "admin", "moderator", "member", "blocked", "reader", "stranger", "banned", "kicked", "signed out"],
        };
        let mut actors = Vec::new();
        for role in roles {
            actors.push(Actor::new(node, kind, role).await);
        }
        let target = Actor::new(node, kind, "target").await;
        let insiders: Vec<&str> = match kind {
            "direct" => vec![&actors[1].id],
            _ => actors[1..].iter().filter(|a| !["stranger", "signed out"].contains(&a.is)).map(|a| &*a.id).chain([&*target.id]).collect(),
        };
        let mut create = json!({ "kind": kind, "members": insiders });
        if kind != "direct" {
            create["name"] = "the stage".into();
        }
        let made = call(node, actors[0].token.as_deref(), "POST", "/v1/rooms", &create).await.1;
        let room = made["room"].as_str().unwrap_or_else(|| panic!("no room: {made}")).to_owned();
        let mut stage = Stage { node, kind, room, actors, target, target_is: "member", said: 0 };
        for (index, role) in roles.iter().enumerate() {
            if !["stranger", "signed out"].contains(role) {
                stage.actors[index].own = stage.says(index).await;
            }
        }
        for role in ["admin", "moderator", "reader"] {
            stage.owner_on(role, "role").await;
        }
        stage.owner_on("banned", "ban").await;
        stage.owner_on("kicked", "kick").await;
        let (blocker, blocked) = if kind == "direct" { (&stage.actors[0], 1) } else { (&stage.target, 4) };
        let path = format!("/v1/blocks/{}", stage.actors[blocked].id);
        assert_eq!(call(node, blocker.token.as_deref(), "PUT", &path, &Value::Null).await.0, 204);
        stage
    }

    fn fresh(&mut self) -> String {
        self.said += 1;
        format!("text {}", self.said)
    }
    async fn ask(&mut self, index: usize, op: &str, mut fields: Value) -> Value {
        fields["room"] = self.room.clone().into();
        fields["cid"] = uuid::Uuid::new_v4().to_string().into();
        self.actors[index].socket.ask(op, fields).await
    }
    async fn says(&mut self, index: usize) -> u64 {
        let text = self.fresh();
        let answer = self.ask(index, "send", json!({ "text": text })).await;
        answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }
    /// Something that the owner may.
    async fn owner(&mut self, op: &str, fields: Value) {
        let answer = self.ask(0, op, fields).await;
        assert_eq!(answer["op"], "ok", "{op}: {answer}");
    }
    /// The owner makes an actor what it is called.
    async fn owner_on(&mut self, is: &str, op: &str) {
        if let Some(actor) = self.actors.iter().find(|a| a.is == is) {
            let mut fields = json!({ "user": actor.id });
            if op == "role" {
                fields["role"] = is.into();
            }
            self.owner(op, fields).await;
        }
    }
    /// Brings the target into a state before somebody acts upon it.
    async fn target_is(&mut self, wanted: &'static str) {
        let way: &[(&str, Option<&str>)] = match (self.target_is, wanted) {
            (a, b) if a == b => &[],
            ("out", "member") => &[("invite", None)],
            ("banned", "member") => &[("unban", None), ("invite", None)],
            ("muted", "member") => &[("unmute", None)],
            (_, "member") => &[("role", Some("member"))],
            ("banned", "out") => &[("unban", None)],
            (_, "out") => &[("kick", None)],
            (_, "banned") => &[("ban", None)],
            ("member", "muted") => &[("mute", None)],
            other => panic!("{other:?}"),
        };
        for (op, role) in way {
            let mut fields = json!({ "user": self.target.id });
            if let Some(role) = role {
                fields["role"] = (*role).into();
            }
            self.owner(op, fields).await;
        }
        self.target_is = wanted;
    }

    /// What the request is about, in the state that it needs.
    async fn prepare(&mut self, request: &str, index: usize) -> About {
        let mut about = About { seq: 2, user: self.target.id.clone(), code: "nothing".into(), fresh: self.fresh() };
        let writes = !self.actors[index].is_outside() && self.actors[index].is != "reader";
        match request {
            "edit own" | "delete own" => about.seq = if writes { self.says(index).await } else { self.actors[index].own },
            "edit other" | "delete other" | "react" | "unreact" | "pin" | "unpin" | "message" | "thread" | "readers" => {
                about.seq = self.says(usize::from(index == 0)).await;
                let marks = match request {
                    "unpin" => ("pin", json!({ "seq": about.seq, "on": true })),
                    "unreact" if writes => ("react", json!({ "seq": about.seq, "emoji": "👍", "on": true })),
                    _ => return about,
                };
                let by = if request == "unpin" { 0 } else { index };
                assert_eq!(self.ask(by, marks.0, marks.1).await["op"], "ok");
            }
            _ if self.kind == "direct" => about.user = self.actors[usize::from(index == 0)].id.clone(),
            "invite" => self.target_is("out").await,
            "unban" => self.target_is("banned").await,
            "unmute" => self.target_is("muted").await,
            "kick" | "ban" | "role" | "mute" | "transfer" => self.target_is("member").await,
            "end link" | "see link" | "use link" => {
                let path = format!("/v1/rooms/{}/invites", self.room);
                let link = call(self.node, self.actors[0].token.as_deref(), "POST", &path, &Value::Null).await.1;
                about.code = link["code"].as_str().unwrap_or_else(|| panic!("{link}")).to_owned();
            }
            _ => {}
        }
        about
    }

    /// Puts right what a request has changed and the next one needs.
    async fn restore(&mut self, request: &str, index: usize) {
        match request {
            "invite" => self.target_is = "member",
            "kick" | "unban" => self.target_is = "out",
            "ban" => self.target_is = "banned",
            "role" => self.target_is = "moderator",
            "mute" => self.target_is = "muted",
            "unmute" => self.target_is = "member",
            "transfer" => {
                let fields = json!({ "room": self.room, "user": self.actors[index].id, "cid": uuid::Uuid::new_v4().to_string() });
                assert_eq!(self.target.socket.ask("transfer", fields).await["op"], "ok");
                self.target_is = "admin";
            }
            "join" | "use link" if self.actors[index].is_outside() => {
                let id = self.actors[index].id.clone();
                self.owner("kick", json!({ "user": id })).await;
            }
            "leave" if !self.actors[index].is_outside() => {
                let (id, is) = (self.actors[index].id.clone(), self.actors[index].is);
                self.owner("invite", json!({ "user": id })).await;
                if ["admin", "moderator", "reader"].contains(&is) {
                    self.owner_on(is, "role").await;
                }
            }
            _ => {}
        }
    }

    /// What becomes of a request of the actor, through one door.
    async fn cell(&mut self, door: Door, request: &str, index: usize) -> char {
        if request == "resume" {
            return self.resume(index).await;
        }
        let about = self.prepare(request, index).await;
        let found = match door {
            Door::Socket => {
                let (op, fields) = as_op(request, &about);
                heard(&self.ask(index, op, fields).await)
            }
            Door::Rest => {
                let (method, path, body) = as_call(request, &self.room, &about);
                seen(call(self.node, self.actors[index].token.as_deref(), method, &path, &body).await.0)
            }
        };
        if found == '+' {
            self.restore(request, index).await;
        }
        found
    }

    async fn resume(&mut self, index: usize) -> char {
        let actor = &mut self.actors[index].socket;
        actor.pushes.clear();
        let answer = actor.ask("resume", json!({ "rooms": [{ "room": self.room, "have": 1 }], "last": false })).await;
        if answer["op"] != "ok" {
            return heard(&answer);
        }
        let of_room = |p: &&Value| p["room"] == self.room.as_str();
        let shown = actor.pushes.iter().filter(of_room).any(|p| p["op"] == "entries" || p["op"] == "entry" || p["standing"] == "catch_up");
        let left = actor.pushes.iter().filter(of_room).any(|p| p["standing"] == "left");
        match (shown, left) {
            (true, false) => '+',
            (false, true) => '.',
            _ => '?',
        }
    }
}

/// A table's rows: doors, request, and the expected answers per column.
fn rows(table: &str, columns: usize) -> impl Iterator<Item = (Vec<Door>, String, Vec<&str>)> {
    table.lines().map(str::trim).filter(|l| !l.is_empty()).skip(1).map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (request, expected) = words[1..].split_at(words.len() - 1 - columns);
        let doors = [('s', Door::Socket), ('r', Door::Rest)];
        let doors = doors.into_iter().filter(|(c, _)| words[0].contains(*c)).map(|(_, door)| door).collect();
        (doors, request.join(" "), expected.to_vec())
    })
}

#[tokio::test]
async fn every_request_is_answered_as_the_table_says() {
    let node = TestNode::start().await;
    let mut wrong = Vec::new();
    for (column, kind) in ["direct", "group", "channel"].into_iter().enumerate() {
        let mut stage = Stage::build(&node, kind).await;
        for (doors, request, expected) in rows(ROOMS, 3) {
            for door in doors {
                let mut found = String::new();
                for index in 0..stage.actors.len() {
                    found.push(stage.cell(door, &request, index).await);
                }
                if found != expected[column] {
                    wrong.push(format!("{request} in a {kind} by {door:?}: expected {}, found {found}", expected[column]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Columns: a contact, a stranger, one whom the other blocks, signed out. `+` for presence: it is told.
const PEOPLE: &str = "
    doors  request            on the other
    r      see                ++.U
    r      see by name        ++.U
    r      ask to be contact  ++.U
    r      end the contact    +++U
    r      block              +++U
    r      unblock            +++U
    sr     open direct        ++.U
    sr     presence           +..U
";

struct Pair<'a> {
    node: &'a TestNode,
    actors: Vec<Actor>,
    other: TestUser,
}

impl Pair<'_> {
    async fn cell(&mut self, door: Door, request: &str, index: usize) -> char {
        let (id, name) = (self.other.id.to_string(), self.other.name.clone());
        let open = json!({ "kind": "direct", "members": [id], "cid": uuid::Uuid::new_v4().to_string() });
        let token = self.actors[index].token.clone();
        if door == Door::Socket {
            let socket = &mut self.actors[index].socket;
            if request == "open direct" {
                return heard(&socket.ask("create", open).await);
            }
            let answer = socket.ask("watch", json!({ "users": [id], "on": true })).await;
            return if answer["presence"] == json!([]) { '.' } else { heard(&answer) };
        }
        let (method, path, body) = match request {
            "see" => ("GET", format!("/v1/users/{id}"), Value::Null),
            "see by name" => ("GET", format!("/v1/users/by-name/{name}"), Value::Null),
            "ask to be contact" => ("PUT", format!("/v1/contacts/{id}"), Value::Null),
            "end the contact" => ("DELETE", format!("/v1/contacts/{id}"), Value::Null),
            "block" => ("PUT", format!("/v1/blocks/{id}"), Value::Null),
            "unblock" => ("DELETE", format!("/v1/blocks/{id}"), Value::Null),
            "open direct" => ("POST", "/v1/rooms".into(), open),
            "presence" => ("GET", "/v1/contacts/presence".into(), Value::Null),
            other => panic!("{other}"),
        };
        let (status, answer) = call(self.node, token.as_deref(), method, &path, &body).await;
        if request == "presence" && answer["items"] == json!([]) { '.' } else { seen(status) }
    }
    /// How the actors stand to the other at the beginning.
    async fn stand(&self) {
        let theirs = Some(self.other.token.as_str());
        let other = self.other.id;
        for actor in &self.actors {
            let mine = actor.token.as_deref();
            let steps: &[(Option<&str>, &str, String)] = &match actor.is {
                "contact" => [
                    (mine, "DELETE", format!("/v1/blocks/{other}")),
                    (mine, "PUT", format!("/v1/contacts/{other}")),
                    (theirs, "PUT", format!("/v1/contacts/{}", actor.id)),
                ],
                "stranger" => [
                    (mine, "DELETE", format!("/v1/blocks/{other}")),
                    (mine, "DELETE", format!("/v1/contacts/{other}")),
                    (theirs, "DELETE", format!("/v1/contacts/{}", actor.id)),
                ],
                "blocked" => [
                    (mine, "DELETE", format!("/v1/blocks/{other}")),
                    (mine, "DELETE", format!("/v1/contacts/{other}")),
                    (theirs, "PUT", format!("/v1/blocks/{}", actor.id)),
                ],
                _ => continue,
            };
            for (token, method, path) in steps {
                let status = call(self.node, *token, method, path, &Value::Null).await.0;
                assert!((200..300).contains(&status), "{method} {path}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn people_are_found_and_asked_as_the_table_says() {
    let node = TestNode::start().await;
    let mut actors = Vec::new();
    for is in ["contact", "stranger", "blocked", "signed out"] {
        actors.push(Actor::new(&node, "people", is).await);
    }
    let other = node.user("the-other").await;
    let mut pair = Pair { node: &node, actors, other };
    let mut wrong = Vec::new();
    for (doors, request, expected) in rows(PEOPLE, 1) {
        for door in doors {
            pair.stand().await;
            let mut found = String::new();
            for index in 0..pair.actors.len() {
                found.push(pair.cell(door, &request, index).await);
            }
            if found != expected[0] {
                wrong.push(format!("{request} by {door:?}: expected {}, found {found}", expected[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Every address of the document that asks for a token, with every verb, and every request of the socket.
#[tokio::test]
async fn who_is_signed_out_gets_nothing_at_any_door() {
    let node = TestNode::start().await;
    let document = call(&node, None, "GET", "/v1/openapi.json", &Value::Null).await.1;
    let (mut tried, mut wrong) = (0, Vec::new());
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if operation["security"] == json!([]) {
                continue;
            }
            let segments: Vec<&str> = path.split('/').map(|s| if s.starts_with('{') { "5" } else { s }).collect();
            let (method, path) = (method.to_uppercase(), segments.join("/"));
            let body = if operation.get("requestBody").is_some() { json!({}) } else { Value::Null };
            let (status, answer) = call(&node, None, &method, &path, &body).await;
            tried += 1;
            if status != 401 || answer["code"] != "unauthorized" {
                wrong.push(format!("{method} {path}: {status} {answer}"));
            }
        }
    }
    let mut socket = RawSocket::json(&node).await;
    for op in hubbub::protocol::ops::Request::OPS.iter().filter(|op| **op != "auth") {
        // Enough fields for any of them: what is refused is the caller, not the form.
        let mut fields =
            json!({ "room": "5", "user": "6", "seq": 1, "text": "x", "emoji": "x", "on": true, "users": [], "role": "member" });
        (fields["name"], fields["read"], fields["state"]) = ("x".into(), 1.into(), "away".into());
        (fields["kind"], fields["token"], fields["cid"]) = ("channel".into(), "x".into(), uuid::Uuid::new_v4().to_string().into());
        let answer = socket.ask(op, fields).await;
        if answer["code"] != "unauthorized" {
            wrong.push(format!("{op}: {answer}"));
        }
    }
    assert!(wrong.is_empty() && tried > 40, "{tried} tried\n{}", wrong.join("\n"));
}
