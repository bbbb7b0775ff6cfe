/** The time of the screen: one timer for everything that shows how long ago something was. */
import { readonly, ref } from "vue";

const time = ref(Date.now());
setInterval(() => (time.value = Date.now()), 1_000);

/** Now in milliseconds, to the second. */
export const now = readonly(time);
