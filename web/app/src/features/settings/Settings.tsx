/** Everything about oneself: profile, looks, notifications, signing in, devices, who is blocked. */
import { type ReactNode, useState } from "react";
import { Dialog } from "../../design/Dialog";
import { type Key, useT } from "../../i18n";
import { Account } from "./Account";
import { Blocked } from "./Blocked";
import { Devices } from "./Devices";
import { Looks } from "./Looks";
import { Notifications } from "./Notifications";
import { ProfileForm } from "./ProfileForm";
import { Security } from "./Security";

const TABS = ["profile", "looks", "notifications", "security", "devices", "blocked", "account"] as const;
type Tab = (typeof TABS)[number];

const SHOW: Record<Tab, () => ReactNode> = {
  profile: () => <ProfileForm />,
  looks: () => <Looks />,
  notifications: () => <Notifications />,
  security: () => <Security />,
  devices: () => <Devices />,
  blocked: () => <Blocked />,
  account: () => <Account />,
};

export default function Settings({ tab, onClose }: { tab: string | undefined; onClose: () => void }) {
  const t = useT();
  const [at, setAt] = useState<Tab>(TABS.find((x) => x === tab) ?? "profile");
  return (
    <Dialog title={t("settings.title")} onClose={onClose} wide>
      <div className="settings">
        <nav className="settings-tabs" aria-label={t("settings.title")}>
          {TABS.map((x) => (
            <button key={x} type="button" aria-current={x === at ? "true" : undefined} onClick={() => setAt(x)}>
              {t(`settings.${x}` as Key)}
            </button>
          ))}
        </nav>
        <section className="settings-main" aria-label={t(`settings.${at}` as Key)}>{SHOW[at]()}</section>
      </div>
    </Dialog>
  );
}
