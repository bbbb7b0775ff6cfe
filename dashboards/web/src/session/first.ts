/** Runs before all else: takes up what `index.html` asked for already. With a header more it would be asked for once more. */
import { context } from "./request";

context.first = fetch("/api/v1/session");
// Who waits for it learns of that.
context.first.catch(() => {});
