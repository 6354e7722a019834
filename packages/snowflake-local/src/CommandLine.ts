/**
 * The command line: what its options are, and the server options that they mean.
 *
 * Secrets come from the environment, never from an argument, where every user of the machine could read them.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import type { ParseArgsConfig } from "node:util"
import { parseArgs } from "node:util"
import type { Options } from "./Configuration.ts"

interface Flag {
  /** What stands behind the flag; a flag without one takes nothing. */
  readonly value?: string
  readonly multiple?: boolean
  readonly help: string
}

const flags = {
  "data-dir": { value: "DIR", help: "Folder for everything the server keeps; made when missing. Required." },
  account: { value: "NAME", help: "The account's identifier, e.g. MYORG-LOCAL. Required." },
  user: { value: "NAME", help: "The user who may log in. Required." },
  "public-key-file": { value: "FILE", help: "The user's RSA public key (PEM), for key-pair login." },
  "password-env": { value: "VAR", help: "Environment variable that holds the user's password." },
  "token-env": {
    value: "VAR",
    help: "Environment variable that holds a programmatic access or OAuth token of the user."
  },
  role: {
    value: "ROLE",
    multiple: true,
    help: "A role of the user; the first one is its default. Default: SYSADMIN and PUBLIC."
  },
  database: { value: "DB", multiple: true, help: "A database that is created when missing." },
  warehouse: { value: "WH", multiple: true, help: "A warehouse that exists. Default: COMPUTE_WH." },
  host: { value: "ADDRESS", help: "Address to listen on. Default: 127.0.0.1." },
  port: { value: "N", help: "Port of HTTP. Default: a free one." },
  "no-http": { help: "No plain HTTP: HTTPS only." },
  "tls-cert": { value: "FILE", help: "Certificate (PEM, with its chain): HTTPS as well as HTTP." },
  "tls-key": { value: "FILE", help: "Private key (PEM) of the certificate." },
  "tls-port": { value: "N", help: "Port of HTTPS. Default: a free one." },
  "ingest-host": {
    value: "HOST",
    help:
      "What clients of Snowpipe Streaming are told is the ingest host, e.g. localhost:8443. Default: the host they ask."
  },
  "token-validity-seconds": { value: "N", help: "How long a session token is good for. Default: 3600." },
  "abandoned-after-millis": {
    value: "N",
    help: "How long an idle transaction may keep others waiting. Default: 10000."
  },
  "enforce-privileges": {
    help: "Refuse what the role was not granted; ACCOUNTADMIN may do everything. Default: every role may."
  },
  threads: {
    value: "N",
    help: "Threads of DuckDB: with 1, small statements cost less; more help with much data. Default: one per processor."
  },
  "task-speedup": { value: "N", help: "Tasks' intervals pass this much faster. Default: 1." },
  admin: {
    help:
      "Serve /_local/**: the statement log, injected faults and other controls. Anyone who reaches the port may use them."
  },
  help: { help: "Show this." },
  version: { help: "Show the version." }
} as const satisfies Readonly<Record<string, Flag>>

type Name = keyof typeof flags

const entries = Object.entries(flags) as ReadonlyArray<[Name, Flag]> // the keys of `flags` are exactly its names

export const help = `A Snowflake-compatible server on this machine, for development and tests.

Usage: etl-stream-snowflake-local --data-dir DIR --account NAME --user NAME [options]

${
  entries.map(([name, flag]) =>
    `  --${flag.value === undefined ? name : `${name} ${flag.value}`}${
      flag.multiple === true ? " ..." : ""
    }\n      ${flag.help}`
  ).join("\n")
}

When it is ready it prints one line of JSON: {"url":"http://127.0.0.1:8084","port":8084,"https":{"url":...,"port":...}}.

Exit codes: 0 after SIGTERM or SIGINT, 1 when it can't start or go on, 2 when the arguments make no sense.
`

export type Command =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Version" }
  | { readonly _tag: "Serve"; readonly options: Options }

/** What is wrong with the arguments, in one line. */
class ArgumentError extends Error {}

const fail = (message: string): never => {
  throw new ArgumentError(message)
}

const read = (flag: Name, file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch (cause) {
    return fail(`--${flag}: ${file} can't be read (${cause instanceof Error && "code" in cause ? cause.code : "?"}).`)
  }
}

/** The file's text, once `check` has found that it is what it should be. */
const pem = (flag: Name, file: string, kind: string, check: (text: string) => unknown): string => {
  const text = read(flag, file)
  try {
    check(text)
  } catch {
    return fail(`--${flag}: ${file} is no ${kind} in PEM.`)
  }
  return text
}

const whole = (flag: Name, text: string | undefined, most: number): number | undefined => {
  if (text === undefined) return undefined
  return /^\d{1,15}$/.test(text) && Number(text) <= most
    ? Number(text)
    : fail(`--${flag} must be a whole number up to ${most}, but is '${text}'.`)
}

const parseOptions = (
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): Command => {
  const options: NonNullable<ParseArgsConfig["options"]> = Object.fromEntries(
    entries.map(([name, flag]) => [name, {
      type: flag.value === undefined ? "boolean" as const : "string" as const,
      multiple: flag.multiple === true
    }])
  )
  const { values } = parseArgs({ args: [...args], options, allowPositionals: false })
  const texts = (name: Name): ReadonlyArray<string> | undefined => {
    const given = values[name]
    return Array.isArray(given) ? given.map(String) : typeof given === "string" ? [given] : undefined
  }
  const text = (name: Name): string | undefined => {
    const [given] = texts(name) ?? []
    return given === "" ? fail(`--${name} is empty.`) : given
  }
  const given = (name: Name): boolean => values[name] === true
  const required = (name: Name): string => text(name) ?? fail(`--${name} is missing.`)
  const secret = (name: Name): Redacted.Redacted<string> | undefined => {
    const variable = text(name)
    if (variable === undefined) return undefined
    const value = environment[variable]
    return value === undefined || value === ""
      ? fail(`--${name}: the environment variable ${variable} is not set.`)
      : Redacted.make(value)
  }
  if (given("help")) return { _tag: "Help" }
  if (given("version")) return { _tag: "Version" }

  const keyFile = text("public-key-file")
  const token = secret("token-env")
  const certificate = text("tls-cert")
  const key = text("tls-key")
  if ((certificate === undefined) !== (key === undefined)) fail("--tls-cert and --tls-key belong together.")
  if (certificate === undefined && text("tls-port") !== undefined) fail("--tls-port needs --tls-cert and --tls-key.")
  if (certificate === undefined && given("no-http")) fail("--no-http needs --tls-cert and --tls-key.")
  return {
    _tag: "Serve",
    options: {
      dataDir: required("data-dir"),
      account: required("account"),
      users: [{
        name: required("user"),
        publicKeyPem: keyFile === undefined
          ? undefined
          : pem("public-key-file", keyFile, "public key", createPublicKey),
        password: secret("password-env"),
        tokens: token === undefined ? undefined : [token],
        roles: texts("role")
      }],
      host: text("host"),
      port: whole("port", text("port"), 65_535),
      http: !given("no-http"),
      tls: certificate === undefined || key === undefined ? undefined : {
        certificate: pem("tls-cert", certificate, "certificate", (pemText) => new X509Certificate(pemText)),
        key: pem("tls-key", key, "unencrypted private key", createPrivateKey),
        port: whole("tls-port", text("tls-port"), 65_535)
      },
      databases: texts("database"),
      warehouses: texts("warehouse"),
      tokenValiditySeconds: whole("token-validity-seconds", text("token-validity-seconds"), 1e9),
      abandonedAfterMillis: whole("abandoned-after-millis", text("abandoned-after-millis"), 1e9),
      enforcePrivileges: given("enforce-privileges"),
      threads: whole("threads", text("threads"), 1024) || undefined,
      taskSpeedup: whole("task-speedup", text("task-speedup"), 1e6) || undefined,
      admin: given("admin"),
      streaming: { ingestHost: text("ingest-host") }
    }
  }
}

/** What the arguments ask for, or what is wrong with them. */
export const parse = (
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): Result.Result<Command, string> =>
  Result.try({
    try: () => parseOptions(args, environment),
    catch: (cause) => cause instanceof Error ? cause.message : String(cause)
  })
