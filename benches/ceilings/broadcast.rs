//! The smallest broadcast server: one thread, one poll; a message is framed once and its bytes are copied to every member,
//! with one system call per member and wake-up. It keeps nothing, checks nothing, and believes its clients.
//!
//! Text frames. In: `J room`, `S n body`. Out: `J` to the joined, `M body` to the room's members, `A n` to the sender.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: Token = Token(usize::MAX);

struct Conn {
    socket: TcpStream,
    open: bool,
    room: Option<usize>,
    input: Vec<u8>,
    out: Vec<u8>,
    queued: bool,
}

#[derive(Default)]
struct Server {
    conns: Vec<Option<Conn>>,
    names: HashMap<Vec<u8>, usize>,
    rooms: Vec<Vec<usize>>,
    /// Connections with something to write.
    dirty: Vec<usize>,
}

pub fn run(address: &str) -> Result<(), Box<dyn Error>> {
    let mut listener = TcpListener::bind(address.parse()?)?;
    println!("{}", serde_json::json!({"ceiling": "broadcast", "address": listener.local_addr()?, "pid": std::process::id()}));
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut buffer, mut server) = (Events::with_capacity(1024), vec![0; 256 * 1024], Server::default());
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            done => done?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, &poll)?,
                Token(id) => {
                    if event.is_writable() {
                        server.touch(id);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        server.receive(id, &mut buffer);
                    }
                }
            }
        }
        for id in std::mem::take(&mut server.dirty) {
            server.flush(id);
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> std::io::Result<()> {
        loop {
            match listener.accept() {
                Ok((mut socket, _)) => {
                    socket.set_nodelay(true)?;
                    let id = self.conns.len();
                    poll.registry().register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
                    self.conns.push(Some(Conn { socket, open: false, room: None, input: Vec::new(), out: Vec::new(), queued: false }));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn touch(&mut self, id: usize) {
        if let Some(conn) = &mut self.conns[id]
            && !conn.queued
        {
            conn.queued = true;
            self.dirty.push(id);
        }
    }

    fn receive(&mut self, id: usize, buffer: &mut [u8]) {
        // Taken out while its messages go to others.
        let Some(mut conn) = self.conns[id].take() else { return };
        loop {
            match conn.socket.read(buffer) {
                Ok(n) if n > 0 => conn.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => {
                    if let Some(room) = conn.room {
                        self.rooms[room].retain(|member| *member != id);
                    }
                    return;
                }
            }
        }
        if !conn.open {
            upgrade(&mut conn);
        }
        let input = std::mem::take(&mut conn.input);
        let mut used = 0;
        while let Some((payload, len)) = conn.open.then(|| unmask(&input[used..])).flatten() {
            used += len;
            self.on_message(id, &mut conn, &payload);
        }
        conn.input = input;
        conn.input.drain(..used);
        self.conns[id] = Some(conn);
        self.touch(id);
    }

    fn on_message(&mut self, id: usize, conn: &mut Conn, payload: &[u8]) {
        if let Some(name) = payload.strip_prefix(b"J ") {
            let next = self.rooms.len();
            let room = *self.names.entry(name.to_vec()).or_insert(next);
            if room == next {
                self.rooms.push(Vec::new());
            }
            self.rooms[room].push(id);
            conn.room = Some(room);
            frame(&mut conn.out, &[b"J"]);
        } else if let (Some(rest), Some(room)) = (payload.strip_prefix(b"S "), conn.room) {
            let space = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
            let (n, body) = rest.split_at(space);
            let mut framed = Vec::with_capacity(body.len() + 16);
            frame(&mut framed, &[b"M", body]);
            for member in &self.rooms[room] {
                if *member == id {
                    conn.out.extend_from_slice(&framed);
                } else if let Some(other) = &mut self.conns[*member] {
                    other.out.extend_from_slice(&framed);
                    if !other.queued {
                        other.queued = true;
                        self.dirty.push(*member);
                    }
                }
            }
            frame(&mut conn.out, &[b"A ", n]);
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(conn) = &mut self.conns[id] else { return };
        conn.queued = false;
        let mut written = 0;
        while written < conn.out.len() {
            match conn.socket.write(&conn.out[written..]) {
                Ok(n) => written += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The rest goes when the socket says it takes more; a broken one says so to the next read.
                Err(_) => break,
            }
        }
        conn.out.drain(..written);
    }
}

fn upgrade(conn: &mut Conn) {
    let Some(end) = memchr::memmem::find(&conn.input, b"\r\n\r\n") else { return };
    let head = String::from_utf8_lossy(&conn.input[..end]).into_owned();
    let key = head.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")));
    let accept = derive_accept_key(key.map_or("", |(_, value)| value.trim()).as_bytes());
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    conn.out.extend_from_slice(answer.as_bytes());
    conn.input.drain(..end + 4);
    conn.open = true;
}

/// One masked frame of at most 64 KiB: its payload and its length.
fn unmask(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (head, len) = match input.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        n => (2, usize::from(n)),
    };
    let key = input.get(head..head + 4)?;
    let masked = input.get(head + 4..head + 4 + len)?;
    Some((masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect(), head + 4 + len))
}

fn frame(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x81);
    match len {
        0..=125 => out.push(len as u8),
        _ => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
