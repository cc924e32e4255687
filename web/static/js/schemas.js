// What can be made here: strategies with their schemas, and venues. They do not change while a desk runs: asked for once.

import { api } from "./api.js";

let asked = null;

/** `{strategies, venues}`; a failed question is asked again next time. */
export function schemas() {
  asked ??= Promise.all([api.get("/api/strategies"), api.get("/api/venues")])
    .then(([{ strategies }, { venues }]) => ({ strategies, venues }))
    .catch((error) => {
      asked = null;
      throw error;
    });
  return asked;
}
