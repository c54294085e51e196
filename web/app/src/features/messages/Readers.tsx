/** Who has read a message, and whom it has reached. */
import { useEffect, useState } from "react";
import type { Reader } from "../../api/rest";
import { explain } from "../../app/errors";
import { useAppSelector } from "../../app/store";
import { useChat, useName, useTimeline } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Notice } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";

export default function Readers({ room, seq, onClose }: { room: string; seq: number; onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const [view] = useTimeline(room);
  const [readers, setReaders] = useState<Reader[] | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    chat.rest.all((page) => chat.rest.readers(room, seq, page)).then(setReaders, (e: unknown) => setError(explain(e, t)));
  }, [chat, room, seq, t]);
  const others = (users: string[]) => users.filter((u) => u !== chat.me.user);
  // What was told live, until the server's list is there, or when it cannot be had.
  const live = others(Object.entries(view.receipts).filter(([, r]) => r.read >= seq).map(([u]) => u));
  const read = readers ? others(readers.map((r) => r.user)) : live;
  const delivered = others(Object.entries(view.receipts).filter(([u, r]) => r.delivered >= seq && !read.includes(u)).map(([u]) => u));
  return (
    <Dialog title={t("readers.title")} onClose={onClose}>
      {error && <Notice>{error}</Notice>}
      <People title={t("readers.read", { count: read.length })} people={read} />
      {delivered.length > 0 && <People title={t("readers.delivered", { count: delivered.length })} people={delivered} />}
    </Dialog>
  );
}

function People({ title, people }: { title: string; people: string[] }) {
  return (
    <section>
      <h3 className="section">{title}</h3>
      <ul className="lines">
        {people.map((user) => <li key={user} className="line"><Somebody user={user} /></li>)}
      </ul>
    </section>
  );
}

function Somebody({ user }: { user: string }) {
  const name = useName(user);
  const picture = useAppSelector((s) => s.people.byId[user]?.avatar_url);
  return <><Avatar id={user} name={name} picture={picture} size="sm" /> <bdi>{name}</bdi></>;
}
