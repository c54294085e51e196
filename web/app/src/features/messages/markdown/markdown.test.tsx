import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, test } from "vitest";
import { Markdown, onlyEmoji } from "./Markdown";
import { plain, safe } from "./parse";

const html = (text: string, mentions: string[] = []) => renderToStaticMarkup(<Markdown text={text} mentions={mentions} me="alice" />);

describe("what people write is what they see", () => {
  test.each([
    ["**bold** and *em* and ~~gone~~", '<p dir="auto"><strong>bold</strong> and <em>em</em> and <s>gone</s></p>'],
    ["***both***", '<p dir="auto"><strong><em>both</em></strong></p>'],
    ["snake_case_name stays", '<p dir="auto">snake_case_name stays</p>'],
    ["2 * 3 * 4", '<p dir="auto">2 * 3 * 4</p>'],
    ["`a *b*`", '<p dir="auto"><code>a *b*</code></p>'],
    ["one\ntwo", '<p dir="auto">one<br/>two</p>'],
    ["\\*not em\\*", '<p dir="auto">*not em*</p>'],
    ["```rust\nlet x = 1;\n\n```", '<pre tabindex="0" dir="ltr"><code>let x = 1;\n</code></pre>'],
    ["> said\n> more", '<blockquote dir="auto"><p dir="auto">said<br/>more</p></blockquote>'],
    ["- a\n- b", '<ul><li dir="auto">a</li><li dir="auto">b</li></ul>'],
    ["3. a\n4. b", '<ol start="3"><li dir="auto">a</li><li dir="auto">b</li></ol>'],
    ["# no headings", '<p dir="auto"># no headings</p>'],
    ["**unclosed", '<p dir="auto">**unclosed</p>'],
  ])("%j", (text, expected) => expect(html(text)).toBe(expected));

  test("addresses become links without the sentence's punctuation", () => {
    expect(html("see https://a.example/x_(y), or (http://b.example).")).toContain('href="https://a.example/x_(y)"');
    expect(html("(http://b.example).")).toContain('href="http://b.example/"');
    expect(html("[words](https://c.example)")).toContain('rel="noreferrer noopener nofollow">words</a>');
  });

  test("only members who are mentioned become mentions", () => {
    expect(html("hi @bob. and @eve", ["bob"])).toBe('<p dir="auto">hi <span class="mention">@bob</span>. and @eve</p>');
    expect(html("@Alice!", ["alice"])).toContain('class="mention me"');
    expect(html("mail@bob", ["bob"])).not.toContain("mention");
  });
});

describe("nothing that could run is ever drawn", () => {
  const ATTACKS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox)",
    "javascript:alert(1)",
    '[x](https://a.example"onmouseover="alert(1))',
    "[<img src=x onerror=alert(1)>](https://a.example)",
    "`<script>`",
    "```html\n<script>alert(1)</script>\n```",
    "https://a.example/<script>",
    "> <svg onload=alert(1)>",
    "- <iframe src=javascript:alert(1)>",
    "[a](//evil.example)",
    "[x](\u0001javascript:alert(1))",
  ];
  test.each(ATTACKS)("%j", (text) => {
    const out = html(text);
    const tags = [...out.matchAll(/<\/?([a-z]+)/g)].map((m) => m[1]);
    expect(tags.filter((t) => !["p", "a", "br", "code", "pre", "blockquote", "ul", "ol", "li", "strong", "em", "s", "span"].includes(t ?? ""))).toEqual([]);
    for (const [, href] of out.matchAll(/href="([^"]*)"/g)) expect(href).toMatch(/^(https?:|mailto:)/);
    // An attribute that would run something begins outside a quoted value: there is none of our own that begins with "on".
    expect(out.replace(/"[^"]*"/g, '""')).not.toMatch(/<[^>]*\son\w+=/);
  });

  test("long hostile text is read quickly", () => {
    for (const text of ["*".repeat(16_000), "[".repeat(16_000), "**a ".repeat(4_000), "`".repeat(16_001), "> ".repeat(8_000), "_a".repeat(8_000), "https://".repeat(2_000), "```\n".repeat(4_001)]) {
      // By the processor's time: how long it takes depends on what else runs.
      const begun = process.cpuUsage();
      html(text);
      expect(process.cpuUsage(begun).user / 1_000, text.slice(0, 8)).toBeLessThan(1_000);
    }
  });
});

test("the one-line form has words only", () => {
  expect(plain("**Hello**\n> quoted `code`\n- [item](https://x.example)")).toBe("Hello quoted code item");
});

test("up to three emoji are shown large, numbers are not", () => {
  expect([onlyEmoji("👍"), onlyEmoji("👩‍👩‍👧 🇩🇪"), onlyEmoji("1 2"), onlyEmoji("👍👍👍👍"), onlyEmoji("ok 👍")]).toEqual([true, true, false, false, false]);
});

test("only addresses that may be followed are safe", () => {
  expect(safe("https://a.example")).toBe("https://a.example/");
  expect([safe("ftp://a"), safe("/relative"), safe("javascript:0")]).toEqual([undefined, undefined, undefined]);
});
