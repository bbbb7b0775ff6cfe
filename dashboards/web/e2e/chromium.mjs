/** The browser of this machine. */
import { existsSync } from "node:fs";

export const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
if (!executablePath) throw new Error("no Chromium on this machine; `scripts/install.sh test` installs Debian's");
