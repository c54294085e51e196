/** A fault of the app's own ends here: it says so and offers to begin anew, instead of an empty page. */
import { Component, type ReactNode } from "react";
import { en } from "../i18n/en";

export class Broken extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) return this.props.children;
    // In English: what went wrong may be the words.
    return (
      <main className="door">
        <div className="door-card">
          <h1>{en["broken.title"]}</h1>
          <p className="note">{en["broken.hint"]}</p>
          <button type="button" className="button primary block" onClick={() => location.reload()}>
            {en["broken.reload"]}
          </button>
        </div>
      </main>
    );
  }
}
