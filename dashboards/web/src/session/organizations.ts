/** Organisations that one reaches: the owners of what one sees, and how they are called. */
import { useQuery } from "@tanstack/vue-query";
import { computed } from "vue";
import { useI18n } from "vue-i18n";
import { answer, api } from "./request";
import { tree } from "./tree";

/** The root as the service makes it: it has a name in each language until somebody gives it one. */
const ROOT = { id: "org_1", name: "root" };

export function organizationName(id: string, name: string, t: (key: string) => string): string {
  return id === ROOT.id && name === ROOT.name ? t("organizations.root") : name;
}

/** Owners to choose from, each set in below its parent, and the name of one; where that is not known, its id. */
export function useOwners() {
  const { t } = useI18n();
  const asked = useQuery({ queryKey: ["owners"], queryFn: ({ signal }) => answer(api.GET("/api/v1/account/organizations", { signal })), staleTime: 60_000 });
  const owners = computed(() => (asked.data.value?.items ?? []).map((owner) => ({ ...owner, name: organizationName(owner.id, owner.name, t) })));
  const options = computed(() => tree(owners.value).map(({ item: { id, name }, depth }) => ({ id, label: "　".repeat(depth) + name })));
  // Another function once the names are there: what was made with the one before is made anew.
  const name = computed(() => {
    const names = new Map(owners.value.map(({ id, name }) => [id, name]));
    return (id: string) => names.get(id) ?? id;
  });
  return { owners, options, name };
}
