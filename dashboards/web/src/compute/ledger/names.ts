/** How organisations, providers and purposes are called. */
import { computed } from "vue";
import { useI18n } from "vue-i18n";
import { useOwners } from "@/session/organizations";
import { useProviderNames } from "../provider/queries";
import { PURPOSES } from "../vm/states";
import type { Names } from "./fields";

export function useNames() {
  const { t } = useI18n();
  const { name: owner } = useOwners();
  const { name: provider } = useProviderNames();
  return computed<Names>(() => {
    const purposes = Object.fromEntries(PURPOSES.map((one) => [one, t(`purpose.${one}`)]));
    return { owner: owner.value, provider: provider.value, purpose: (purpose) => purposes[purpose] ?? purpose };
  });
}
