#!/usr/bin/env node
/**
 * The command: starts a server and prints one JSON line, `{"url":…,"port":…}`, when it is ready.
 *
 * `node main.ts --port N --data-dir D --account A --user U [--public-key-file F] [--password-env VAR] [--token-env VAR] [--database DB]… [--warehouse WH]… [--admin]`
 *
 * Ends in order on SIGTERM and SIGINT with exit code 0. What it acknowledged is on disk even when it is killed.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import type { User } from "./Accounts.ts"
import type { Options } from "./Configuration.ts"
import { serve } from "./Server.ts"

const usage =
  "usage: main.ts --data-dir DIR --account ACCOUNT --user USER [--port N] [--host H] [--public-key-file FILE] " +
  "[--password-env VAR] [--token-env VAR] [--role ROLE]... [--database DB]... [--warehouse WH]... [--ingest-host H] " +
  "[--token-validity-seconds N] [--abandoned-after-millis N] [--admin]"

const fail = (message: string): never => {
  process.stderr.write(`${message}\n${usage}\n`)
  process.exit(2)
}

const environment = (name: string): Redacted.Redacted<string> => {
  const value = process.env[name]
  return value === undefined ? fail(`The environment variable ${name} is not set.`) : Redacted.make(value)
}

const whole = (name: string, text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  return /^\d+$/.test(text) ? Number(text) : fail(`--${name} must be a whole number, but is '${text}'.`)
}

const readKey = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return fail(`The public key file ${file} can't be read.`)
  }
}

const options = (): Options => {
  const { values } = parseArgs({
    options: {
      port: { type: "string" },
      host: { type: "string" },
      "data-dir": { type: "string" },
      account: { type: "string" },
      user: { type: "string" },
      "public-key-file": { type: "string" },
      "password-env": { type: "string" },
      "token-env": { type: "string" },
      role: { type: "string", multiple: true },
      database: { type: "string", multiple: true },
      warehouse: { type: "string", multiple: true },
      "ingest-host": { type: "string" },
      "token-validity-seconds": { type: "string" },
      "abandoned-after-millis": { type: "string" },
      admin: { type: "boolean" }
    }
  })
  const keyFile = values["public-key-file"]
  const passwordVariable = values["password-env"]
  const tokenVariable = values["token-env"]
  const user: User = {
    name: values.user ?? fail("--user is missing."),
    publicKeyPem: keyFile === undefined ? undefined : readKey(keyFile),
    password: passwordVariable === undefined ? undefined : environment(passwordVariable),
    tokens: tokenVariable === undefined ? undefined : [environment(tokenVariable)],
    roles: values.role
  }
  return {
    dataDir: values["data-dir"] ?? fail("--data-dir is missing."),
    account: values.account ?? fail("--account is missing."),
    users: [user],
    port: whole("port", values.port),
    host: values.host,
    databases: values.database,
    warehouses: values.warehouse,
    tokenValiditySeconds: whole("token-validity-seconds", values["token-validity-seconds"]),
    abandonedAfterMillis: whole("abandoned-after-millis", values["abandoned-after-millis"]),
    admin: values.admin,
    streaming: values["ingest-host"] === undefined ? {} : { ingestHost: values["ingest-host"] }
  }
}

const parsed = (): Options => {
  try {
    return options()
  } catch (cause) {
    return fail(cause instanceof Error ? cause.message : String(cause))
  }
}

const stopped = Effect.callback<void>((resume) => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resume(Effect.void))
})

const program = Effect.scoped(Effect.gen(function*() {
  const address = yield* serve(parsed())
  process.stdout.write(`${JSON.stringify(address)}\n`)
  yield* stopped
}))

Effect.runPromise(program).then(
  () => process.exit(0),
  (cause: unknown) => {
    process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\n`)
    process.exit(1)
  }
)
