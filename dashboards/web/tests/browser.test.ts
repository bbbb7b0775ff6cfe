/** Browsers by their names. */
import { expect, test } from "vitest";
import { browserName } from "../src/access/browser";

test("a browser is named by what it is, not by what it calls itself as well", () => {
  const base = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
  for (const [agent, name] of [
    [base, "Chrome 140 · Windows"],
    [`${base} Edg/140.0.1`, "Edge 140 · Windows"],
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/139.0.0.0 Safari/537.36", "Chrome 139 · Linux"],
    ["Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox 128 · Linux"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15", "Safari 17 · macOS"],
    ["curl/8.5.0", "curl/8.5.0"],
  ] as const) expect(browserName(agent)).toBe(name);
});
