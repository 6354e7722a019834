/**
 * Why a replication stream could not begin or has ended, as an error for people.
 *
 * A server's error says different things before and within a stream: before it an object that doesn't exist is the slot,
 * within it the publication. Which check failed is told by the routine's name, which is never translated.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as PostgresError from "../PostgresError.ts"
import type { StreamEnd } from "./wireReader.ts"

const asCause = (fields: ReadonlyMap<string, string>): Error & { readonly code: string } =>
  Object.assign(new Error(fields.get("M") ?? ""), { code: fields.get("C") ?? "XX000" })

const recopy = "Changes since its last confirmed position are gone: drop the slot and have the tables copied again."

/** Code of a connection that was given up because the server shuts down (SQLSTATE `cannot_connect_now`). */
export const shuttingDown = "57P03"

/** START_REPLICATION was refused. `holder` says who holds a slot that is in use, if that is known. */
export const refusedError = (
  fields: ReadonlyMap<string, string>,
  slot: string,
  holder: string | undefined
): ConnectorError => {
  const doing = `starting replication from slot "${slot}"`
  switch (fields.get("C")) {
    case "42704":
      return PostgresError.make("Lost", `${doing}: the slot does not exist`, recopy)
    case "55006":
      return PostgresError.make(
        "Fenced",
        `${doing}: the slot is in use${holder === undefined ? "" : ` by ${holder}`}`,
        "Another runner may serve this pipeline, or a session that was cut off is not yet noticed by the server: stop the " +
          "other one, or give this pipeline a slot of its own."
      )
    case "55000":
      return fields.get("R") === "CheckLogicalDecodingRequirements"
        ? PostgresError.make(
          "Misconfigured",
          `${doing}: the server's wal_level is not logical`,
          "Set wal_level = logical and restart the server."
        )
        : PostgresError.make("Lost", `${doing}: the server can't give the slot's changes any more`, recopy)
    case "58P01":
      return PostgresError.make("Lost", `${doing}: WAL that the slot needs was removed`, recopy)
    default:
      return PostgresError.fromCause(asCause(fields), doing)
  }
}

/** The stream has ended. */
export const streamError = (end: StreamEnd, slot: string): ConnectorError => {
  const doing = `streaming from slot "${slot}"`
  switch (end._tag) {
    case "Lost":
      return PostgresError.make(
        "Unreachable",
        `${doing}: ${
          end.code === "ETIMEDOUT"
            ? "the server is silent"
            : end.code === shuttingDown
            ? "the server shuts down"
            : `the connection was lost${end.code === undefined ? "" : ` (${end.code})`}`
        }`,
        "The pipeline tries again by itself. If it goes on, look in the server's log and at the network in between."
      )
    case "CopyDone":
      return PostgresError.make(
        "Unreachable",
        `${doing}: the server ended the stream`,
        "It does so when it shuts down; the pipeline tries again by itself."
      )
    case "Malformed":
      return PostgresError.make(
        "Protocol",
        `${doing}: ${end.what} came, which is not PostgreSQL's protocol`,
        "Check what stands between (proxy, load balancer); if nothing does, please report this with the server's version."
      )
    case "ServerError": {
      const code = end.fields.get("C")
      if (code === "42704") {
        return PostgresError.make(
          "Missing",
          `${doing}: a publication does not exist`,
          "Create the publication, or let the pipeline manage it. A slot that is older than its publication can't find it: " +
            "create the publication before the slot."
        )
      }
      if (code === "58P01") return PostgresError.make("Lost", `${doing}: WAL that the slot needs was removed`, recopy)
      return PostgresError.fromCause(asCause(end.fields), doing)
    }
  }
}
