/** The session: who is logged in. Nothing of the service's state is kept here besides. */
import { defineStore } from "pinia";
import { computed, ref } from "vue";
import { type Action, may } from "./can";
import { Refusal, answer, api, context, fetchFirst } from "./request";
import type { Me } from "./shapes";

export const useSession = defineStore("session", () => {
  const me = ref<Me | null>(null);
  const known = ref(false);

  function begin(found: Me | null) {
    me.value = found;
    known.value = true;
    context.csrf = found?.csrf ?? "";
  }

  /** Asks the service once who this is. */
  async function restore(): Promise<Me | null> {
    if (known.value) return me.value;
    try {
      begin(await answer(api.GET("/api/v1/session", { fetch: fetchFirst })));
    } catch (cause) {
      if (!(cause instanceof Refusal) || cause.status !== 401) throw cause;
      begin(null);
    }
    return me.value;
  }

  async function login(name: string, password: string): Promise<Me> {
    const found = await answer(api.POST("/api/v1/session", { body: { name, password } }));
    begin(found);
    return found;
  }

  /** Throws where the service did not end the session: the person is logged in still. */
  async function logout() {
    try {
      await api.DELETE("/api/v1/session");
    } catch (cause) {
      // It had ended before.
      if (!(cause instanceof Refusal) || cause.status !== 401) throw cause;
    }
    begin(null);
  }

  return { me, known: computed(() => known.value), begin, restore, login, logout, may: (action: Action) => may(me.value, action) };
});
