import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import type { Chat } from "../../chat/chat";
import { ChatProvider } from "../../chat/context";
import { I18n } from "../../i18n";
import { Farewell } from "./Account";

const html = (totp: boolean) =>
  renderToStaticMarkup(
    <I18n language="en">
      <ChatProvider value={{} as Chat}>
        <Farewell totp={totp} onRefused={() => undefined} />
      </ChatProvider>
    </I18n>,
  );

test("who deletes the account is asked for a code where the second step is on, and only there", () => {
  expect(html(true)).toMatch(/<input[^>]*name="code"[^>]*/);
  expect(html(true)).toMatch(/<input[^>]*name="password"/);
  expect(html(false)).not.toContain('name="code"');
});
