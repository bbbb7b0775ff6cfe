/** Which page stands at which path, and who is let in. */
import { type RouteLocationNormalized, START_LOCATION, createRouter, createWebHistory, loadRouteLocation } from "vue-router";
import { askAhead, askAheadOfHosts } from "@/compute/queries";
import { askAheadOfVm, askAheadOfVms } from "@/compute/vm/queries";
import { type PathName, paths } from "@/paths";
import type { Action } from "@/session/can";
import { useSession } from "@/session/store";
import { rangeOf } from "@/ui/range";
import { queries } from "./queries";

declare module "vue-router" {
  interface RouteMeta {
    /** What one must be allowed to do to see the page. */
    needs?: Action;
    /** Without a session, outside the frame. */
    open?: boolean;
    /** The page above it. */
    above?: PathName;
    /** Asks for what the page shows, before its code is there; it ends when everything has been asked for. */
    ahead?: (to: RouteLocationNormalized) => Promise<void>;
  }
}

const ID = ":id" as const;
/** A page waits no longer for its questions to go out. */
const PATIENCE = 200;

export const router = createRouter({
  history: createWebHistory(),
  // The first page stands at its top. To be told so would lay it out before it is whole.
  scrollBehavior: (_to, from, saved) => saved ?? (from === START_LOCATION ? false : { top: 0 }),
  routes: [
    { path: "/", name: "home", component: () => import("./HomePage.vue") },
    { path: paths.login(), name: "login", meta: { open: true }, component: () => import("@/access/LoginPage.vue") },
    { path: paths.invitation(), name: "invitation", meta: { open: true }, component: () => import("@/access/InvitationPage.vue") },
    { path: paths.overview(), name: "overview", meta: { needs: "hosts.see" }, component: () => import("@/overview/OverviewPage.vue") },
    { path: paths.hosts(), name: "hosts", meta: { needs: "hosts.see", ahead: () => askAheadOfHosts(queries) }, component: () => import("@/compute/HostsPage.vue") },
    { path: `${paths.hosts()}/${ID}`, name: "host", meta: { needs: "hosts.see", above: "hosts", ahead: ({ params, query }) => askAhead(queries, String(params.id), rangeOf(query)) }, component: () => import("@/compute/HostPage.vue") },
    { path: paths.rollouts(), name: "rollouts", meta: { needs: "agents.see" }, component: () => import("@/fleet/rollout/RolloutsPage.vue") },
    { path: `${paths.rollouts()}/${ID}`, name: "rollout", meta: { needs: "agents.see", above: "rollouts" }, component: () => import("@/fleet/rollout/RolloutPage.vue") },
    { path: paths.cloud(), name: "cloud", meta: { needs: "vms.see" }, component: () => import("@/compute/cloud/CloudPage.vue") },
    { path: paths.vms(), name: "vms", meta: { needs: "vms.see", ahead: () => askAheadOfVms(queries) }, component: () => import("@/compute/vm/VmsPage.vue") },
    { path: `${paths.vms()}/${ID}`, name: "vm", meta: { needs: "vms.see", above: "vms", ahead: ({ params, query }) => askAheadOfVm(queries, String(params.id), rangeOf(query)) }, component: () => import("@/compute/vm/VmPage.vue") },
    { path: paths.ledger(), name: "ledger", meta: { needs: "vms.see" }, component: () => import("@/compute/ledger/LedgerPage.vue") },
    { path: paths.review(), name: "review", meta: { needs: "vms.see" }, component: () => import("@/compute/review/ReviewPage.vue") },
    { path: paths.providers(), name: "providers", meta: { needs: "vms.see" }, component: () => import("@/compute/provider/ProvidersPage.vue") },
    { path: paths.agents(), name: "agents", meta: { needs: "agents.see" }, component: () => import("@/fleet/AgentsPage.vue") },
    { path: paths.users(), name: "users", meta: { needs: "users.see" }, component: () => import("@/access/UsersPage.vue") },
    { path: paths.roles(), name: "roles", meta: { needs: "users.see" }, component: () => import("@/access/RolesPage.vue") },
    { path: paths.organizations(), name: "organizations", meta: { needs: "users.see" }, component: () => import("@/access/OrganizationsPage.vue") },
    { path: paths.tokens(), name: "tokens", meta: { needs: "users.see" }, component: () => import("@/access/TokensPage.vue") },
    { path: paths.sessions(), name: "sessions", meta: { needs: "users.see" }, component: () => import("@/access/SessionsPage.vue") },
    { path: paths.audit(), name: "audit", meta: { needs: "audit.see" }, component: () => import("@/access/AuditPage.vue") },
    { path: paths.settings(), name: "settings", meta: { needs: "settings.see" }, component: () => import("@/control/SettingsPage.vue") },
    { path: paths.account(), name: "account", component: () => import("@/access/AccountPage.vue") },
    { path: "/:rest(.*)*", name: "unknown", component: () => import("./UnknownPage.vue") },
  ],
});

router.beforeEach(async (to, from) => {
  const session = useSession();
  const { ahead, needs } = to.meta;
  // The page comes while the service is asked who this is. What fails of it the navigation itself tells.
  if (!session.known) loadRouteLocation(to).catch(() => {});
  const me = await session.restore().catch(() => null);
  if (to.meta.open) return me && to.name === "login" ? landing(me.landing) : true;
  if (!me) return { name: "login", query: to.path === "/" ? {} : { to: to.fullPath } };
  if (to.name === "home") return landing(me.landing);
  // What cannot be had the page finds out itself. Making the page would hold its questions up, so they go out first.
  const asks = ahead && to.path !== from.path && (!needs || session.may(needs).ok);
  if (asks) await Promise.race([ahead(to).catch(() => {}), new Promise((done) => setTimeout(done, PATIENCE))]);
  return true;
});

/** The page of one's duty, which the service names. */
function landing(path: string): string {
  return router.resolve(path).name === "home" ? paths.account() : path;
}
