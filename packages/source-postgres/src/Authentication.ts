/**
 * Watches how a server wants to know who we are, before the password goes out.
 *
 * node-postgres answers whatever a server asks for. That would give a password in plain text to anyone who listens on the network, or
 * who stands in for the server; so a question that isn't allowed is refused at the moment when the password is needed, and a server
 * that lets us in without having been asked to prove itself, where that is required, is left.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Redacted from "effect/Redacted"
import type { Client } from "pg"
import type { Settings } from "./Config.ts"
import type { AuthMethod } from "./ConnectionParameters.ts"
import { describeHost, type Host, isLocal } from "./Endpoint.ts"
import * as PostgresError from "./PostgresError.ts"

const unbound = "SCRAM-SHA-256"
const bound = "SCRAM-SHA-256-PLUS"

export interface Authentication {
  /** Sees a client before it connects. */
  readonly watch: (client: Client) => void
  /** For node-postgres's `password`: called when the server has asked. */
  readonly password: () => string
  /** What is wrong with how the server let us in. */
  readonly problem: () => ConnectorError | undefined
}

const refusal = (message: string, hint: string) => PostgresError.make("Misconfigured", message, hint)

/** What to say of a method that isn't allowed. */
const notAllowed = (settings: Settings, host: Host, method: AuthMethod): ConnectorError | undefined => {
  const server = describeHost(host)
  const asks = method === "none" ? "asks for no proof of who logs in" : `asks for the password by ${method}`
  const { allowedMethods, channelBinding, tls } = settings
  if (channelBinding === "require" && method !== "scram-sha-256") {
    return refusal(
      `${server} ${asks}, so the login can't be bound to the TLS connection as channelBinding requires`,
      "Let pg_hba.conf of the server ask for scram-sha-256, or set channelBinding to prefer."
    )
  }
  if (allowedMethods !== undefined) {
    return allowedMethods.has(method) ? undefined : refusal(
      `${server} ${asks}, which requireAuth doesn't allow`,
      "Let pg_hba.conf of the server ask for scram-sha-256, or extend requireAuth."
    )
  }
  if (tls.mode === "disable" && !isLocal(host) && (method === "password" || method === "md5")) {
    return refusal(
      `${server} ${asks} over a connection that anybody in between can read`,
      `Set tls.mode to verify-full, or let pg_hba.conf of the server ask for scram-sha-256; requireAuth: ${method} allows it nevertheless.`
    )
  }
  return undefined
}

/** Watches one connection. `password` is what the server may have. */
export const make = (
  settings: Settings,
  host: Host,
  password: Redacted.Redacted<string> | undefined
): Authentication => {
  let refused: ConnectorError | undefined
  let proven: AuthMethod = "none"
  const asked = (method: AuthMethod): void => {
    refused ??= notAllowed(settings, host, method)
  }
  return {
    watch: ({ connection }) => {
      // Before node-postgres's own listeners, which answer.
      connection.on("authenticationCleartextPassword", () => {
        asked("password")
        proven = "password"
      })
      connection.on("authenticationMD5Password", () => {
        asked("md5")
        proven = "md5"
      })
      connection.on("authenticationSASL", ({ mechanisms }: { readonly mechanisms: ReadonlyArray<string> }) => {
        asked("scram-sha-256")
        if (settings.channelBinding === "require" && !mechanisms.includes(bound)) {
          refused ??= refusal(
            `${describeHost(host)} offers ${
              mechanisms.includes(unbound) ? unbound : "a login"
            } without channel binding`,
            "Something between here and the server may end the TLS connection. Connect to the server itself, or set channelBinding to prefer."
          )
        }
      })
      // The server has proven that it knows the password, too.
      connection.on("authenticationSASLFinal", () => {
        proven = "scram-sha-256"
      })
    },
    password: () => {
      if (refused !== undefined) throw refused
      if (password !== undefined) return Redacted.value(password)
      throw PostgresError.make(
        "Unauthorized",
        `${describeHost(host)} asks for a password, and there is none for user ${
          JSON.stringify(settings.endpoint.user)
        }`,
        "Check user and password in the source's options, or add a line for this host, port, database and user to the password file."
      )
    },
    problem: () => refused ?? notAllowed(settings, host, proven)
  }
}
