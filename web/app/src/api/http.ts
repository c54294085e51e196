/** Requests to the server's REST API: the token, JSON, errors as the server means them. What each address is for stands in `rest.ts`. */

/** What failed: the server's code, or `offline` when no answer came at all. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 0,
    readonly retry: "never" | "now" | "later" = "never",
    readonly retryAfterMs?: number,
    readonly extra: Record<string, unknown> = {},
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export function isApiError(e: unknown): e is ApiError {
  return e instanceof ApiError;
}

/** Longest wait for an answer. */
const TIMEOUT_MS = 15_000;

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
export type Options = {
  body?: unknown;
  token?: string;
  headers?: Record<string, string>;
};

/** One request. Anything but 2xx is thrown as an `ApiError`. */
export async function request<R>(method: Method, path: string, { body, token, headers = {} }: Options = {}): Promise<R> {
  const sent: Record<string, string> = { accept: "application/json", ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  if (token) sent.authorization = `Bearer ${token}`;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: sent,
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError("offline", "the server cannot be reached", 0, "later");
  }
  if (response.status === 204) return undefined as R;
  const json: unknown = await response.json().catch(() => undefined);
  if (response.ok) return json as R;
  throw problem(response.status, json);
}

/** Reads an error body (RFC 9457 with our members); a proxy's own page becomes an error that can be tried again. */
export function problem(status: number, json: unknown): ApiError {
  const body = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const text = (name: string) => (typeof body[name] === "string" ? (body[name] as string) : undefined);
  const retry = text("retry");
  return new ApiError(
    text("code") ?? (status >= 500 ? "unavailable" : "internal"),
    text("detail") ?? text("title") ?? `the server answered ${status}`,
    status,
    retry === "now" || retry === "later" || retry === "never" ? retry : status >= 500 ? "later" : "never",
    typeof body.retry_after_ms === "number" ? body.retry_after_ms : undefined,
    body,
  );
}
