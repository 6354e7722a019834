/**
 * Requests and responses, as the server's parts see them.
 */

/** A request that was read whole; header names in lower case. */
export interface Request {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

export interface Response {
  /** An HTTP status, or `dropConnection`. */
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | Uint8Array
}

/** The status of a response that is none: the server destroys the socket. */
export const dropConnection = 0

export const json = (body: unknown, status = 200): Response => ({
  status,
  headers: { "content-type": "application/json" },
  body: typeof body === "string" ? body : JSON.stringify(body)
})
