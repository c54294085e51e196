/** What a room's admins set: its name and topic, how fast it is, whether it is found and whether it goes on. */
import { type FormEvent, useState } from "react";
import { explain } from "../../app/errors";
import { useChat } from "../../chat/context";
import type { Room } from "../../chat/types";
import { Button, Check, Field, Notice, Select } from "../../design/controls";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";

/** Choices of slow mode, in seconds. */
const PAUSES = [0, 10, 30, 60, 300, 3_600];

export function RoomForm({ room, onDone }: { room: Room; onDone: () => void }) {
  const t = useT();
  const chat = useChat();
  const dates = useDates();
  const [pause, setPause] = useState(String(room.slowModeS));
  const [unlisted, setUnlisted] = useState(room.unlisted);
  const [archived, setArchived] = useState(room.archived);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const save = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const data = new FormData(e.currentTarget);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    const wanted = { name: text("name"), topic: text("topic"), slow_mode_s: Number(pause), unlisted, archived };
    const before = { name: room.name, topic: room.topic, slow_mode_s: room.slowModeS, unlisted: room.unlisted, archived: room.archived };
    // Only what changed: each change is told in the room, and an archived room takes none but to be opened again.
    const change = Object.fromEntries(Object.entries(wanted).filter(([key, value]) => value !== before[key as keyof typeof before]));
    setBusy(true);
    setError("");
    try {
      if (Object.keys(change).length > 0) await chat.update(room.room, change);
      onDone();
    } catch (failure) {
      setError(explain(failure, t));
      setBusy(false);
    }
  };
  const pauses = PAUSES.includes(room.slowModeS) ? PAUSES : [...PAUSES, room.slowModeS];
  return (
    <form className="door-form" onSubmit={(e) => void save(e)}>
      {error && <Notice kind="bad">{error}</Notice>}
      <Field label={t("new.name")} name="name" defaultValue={room.name} maxLength={100} required autoFocus />
      <Field label={t("new.topic")} name="topic" defaultValue={room.topic} maxLength={1000} />
      <Select label={t("slow.title")} value={pause} options={pauses.map((s) => ({ value: String(s), label: s === 0 ? t("slow.off") : t("slow.every", { span: dates.span(s) }) }))} onChange={setPause} />
      {room.kind === "channel" && <Check label={t("info.unlisted")} hint={t("info.unlistedHint")} checked={unlisted} onChange={setUnlisted} />}
      <Check label={t("info.archive")} hint={t("info.archiveHint")} checked={archived} onChange={setArchived} />
      <div className="button-row">
        <Button kind="primary" type="submit" busy={busy}>{t("save")}</Button>
        <Button onClick={onDone}>{t("cancel")}</Button>
      </div>
    </form>
  );
}
