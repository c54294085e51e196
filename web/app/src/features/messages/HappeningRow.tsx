/** A line that tells what happened to the room or its members. */
import { memo } from "react";
import { useName } from "../../chat/context";
import type { Happening } from "../../chat/types";
import { type Key, useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { DayLine } from "./MessageRow";
import type { Around } from "./rows";

const MEMBER: Record<string, Key> = {
  join: "happened.join",
  invite: "happened.invite",
  leave: "happened.leave",
  kick: "happened.kick",
  ban: "happened.ban",
  unban: "happened.unban",
  role: "happened.role",
  mute: "happened.mute",
  unmute: "happened.unmute",
  transfer: "happened.transfer",
};

export const HappeningRow = memo(function HappeningRow({ item, around }: { item: Happening; around: Around }) {
  const dates = useDates();
  return (
    <>
      {around.day && <DayLine at={item.at} />}
      <p className="happening" title={dates.full(item.at)} data-key={item.key}>
        <What item={item} />
      </p>
    </>
  );
});

function What({ item }: { item: Happening }) {
  const t = useT();
  const { what } = item;
  const who = useName(item.by);
  const user = useName("member" in what ? what.member.user : item.by);
  if ("member" in what) {
    const { change, role } = what.member;
    return t(MEMBER[change] ?? "happened.other", { who, user, role: role ? t(`role.${role}`) : "" });
  }
  if (what.room.created) return t("happened.created", { who });
  if (what.room.archived !== undefined) return t(what.room.archived ? "happened.archived" : "happened.reopened", { who });
  if (what.room.name !== undefined) return t("happened.named", { who, name: what.room.name });
  return what.room.topic === undefined ? t("happened.settings", { who }) : t("happened.topic", { who, topic: what.room.topic });
}
