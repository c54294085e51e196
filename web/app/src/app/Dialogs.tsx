/** Which dialog is open. All but the switcher's come when they are first needed. */
import { lazy, Suspense } from "react";
import { useAppDispatch, useAppSelector } from "./store";
import { dialogSet } from "./ui";

const Switcher = lazy(() => import("../features/switcher/Switcher"));
const Shortcuts = lazy(() => import("../features/help/Shortcuts"));
const Settings = lazy(() => import("../features/settings/Settings"));
const NewDirect = lazy(() => import("../features/rooms/NewDirect"));
const NewRoom = lazy(() => import("../features/rooms/NewRoom"));
const Readers = lazy(() => import("../features/messages/Readers"));
const DeleteMessage = lazy(() => import("../features/messages/DeleteMessage"));
const ReportMessage = lazy(() => import("../features/messages/ReportMessage"));
const ProfileCard = lazy(() => import("../features/people/ProfileCard"));

export function Dialogs() {
  const dialog = useAppSelector((s) => s.ui.dialog);
  const dispatch = useAppDispatch();
  const close = () => dispatch(dialogSet(null));
  if (!dialog) return null;
  return <Suspense fallback={null}>{show()}</Suspense>;

  function show() {
    switch (dialog?.name) {
      case "switcher":
        return <Switcher onClose={close} />;
      case "shortcuts":
        return <Shortcuts onClose={close} />;
      case "settings":
        return <Settings tab={dialog.tab} onClose={close} />;
      case "newDirect":
        return <NewDirect onClose={close} />;
      case "newRoom":
        return <NewRoom onClose={close} />;
      case "readers":
        return <Readers room={dialog.room} seq={dialog.seq} onClose={close} />;
      case "delete":
        return <DeleteMessage room={dialog.room} seq={dialog.seq} onClose={close} />;
      case "report":
        return <ReportMessage room={dialog.room} seq={dialog.seq} onClose={close} />;
      case "profile":
        return <ProfileCard user={dialog.user} onClose={close} />;
      default:
        return null;
    }
  }
}
