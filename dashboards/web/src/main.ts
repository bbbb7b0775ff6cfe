/** The start: what is global, then the first page. */
import "@/session/first";
import "@/ui/tokens.css";
import "@/ui/elements.css";
import { VueQueryPlugin } from "@tanstack/vue-query";
import { createPinia } from "pinia";
import { createApp, watch } from "vue";
import App from "@/frame/App.vue";
import { queries } from "@/frame/queries";
import { router } from "@/frame/router";
import { giveUpAhead } from "@/session/list";
import { usePreferences } from "@/session/preferences";
import { watchPresence } from "@/session/presence";
import { doubted, onceBack } from "@/session/reach";
import { context } from "@/session/request";
import { useSession } from "@/session/store";
import { i18n, speak } from "@/texts";

const app = createApp(App).use(createPinia()).use(i18n).use(VueQueryPlugin, { queryClient: queries });
watchPresence(window);
const preferences = usePreferences();
const session = useSession();
context.ended = () => {
  // Where nobody was, nothing has ended.
  if (!session.me) return;
  session.begin(null);
  void router.push({ name: "login", query: { to: router.currentRoute.value.fullPath } });
};
// What one person was shown, or was about to be, is nothing of the next one's.
function forget() {
  queries.clear();
  giveUpAhead();
}
watch(() => session.me?.user.id, () => session.known && forget(), { flush: "sync" });
// Who this is was not answered; it may be now.
onceBack(() => {
  const { to } = router.currentRoute.value.query;
  if (!session.known) void router.replace(typeof to === "string" ? to : "/");
});
router.afterEach(() => session.known || doubted());
watch(() => preferences.language, speak);
// The first page is on its way while the texts are.
app.use(router);
await speak(preferences.language);
app.mount("#app");
