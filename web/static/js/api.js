// REST: JSON in and out, the CSRF token on whatever changes something, and errors as one class that says how sure we are.
// `outcome` is "refused" (nothing happened), "unreachable" (nothing was sent or it never arrived) or "unknown" (sent, no answer).

const ANSWER_MS = 20_000; // stop waits up to 10 s for the venue
const RETRY_CSRF = 403;

export class ApiError extends Error {
  constructor(outcome, { status = 0, title = "", detail = "", errors = [] } = {}) {
    super(detail || title || outcome);
    this.outcome = outcome;
    this.status = status;
    this.title = title;
    this.errors = errors;
  }
}

let csrf = null;

/** The session of this browser: `{csrf, ...}`. Also learns how far the server's clock is ahead, in ms. */
export async function openSession() {
  const before = Date.now();
  const response = await send("GET", "/api/session");
  const session = await answer(response);
  csrf = session.csrf;
  const served = Date.parse(response.headers.get("Date") ?? "");
  // the header counts whole seconds: a difference below that is no difference
  const ahead = served - (before + Date.now()) / 2;
  return { ...session, serverAheadMs: Math.abs(ahead) > 1500 ? ahead : 0 };
}

export const api = {
  get: async (path) => answer(await send("GET", path)),
  post: (path, body = {}) => change("POST", path, body),
  patch: (path, body) => change("PATCH", path, body),
  remove: (path) => change("DELETE", path),
};

async function change(method, path, body) {
  if (csrf === null) await openSession();
  let response = await send(method, path, body);
  if (response.status === RETRY_CSRF) {
    await openSession(); // signed in again elsewhere: the old token is void
    response = await send(method, path, body);
  }
  return answer(response);
}

async function send(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf !== null) headers["X-CSRF-Token"] = csrf;
  try {
    return await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch (error) {
    throw new ApiError(error.name === "TimeoutError" && method !== "GET" ? "unknown" : "unreachable", { detail: error.message });
  }
}

async function answer(response) {
  if (response.status === 401) location.reload(); // the server then shows its login page
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const body = isJson ? await response.json().catch(() => null) : null;
  if (response.ok) return body;
  throw new ApiError(response.status === 504 ? "unknown" : "refused", { ...(body ?? {}), status: response.status });
}
