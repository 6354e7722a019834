/**
 * Roles and what they may do: privileges on objects, roles that hold other roles, and who owns what.
 *
 * An object belongs to the role that created it, which may do everything with it; ACCOUNTADMIN may do everything. Whether anything is refused is an option: a server for tests of something else lets every role
 * do everything, and only keeps what is granted.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Accounts } from "./Accounts.ts"
import type { CatalogObject, DatabaseRecord, SchemaRecord } from "./Catalog.ts"
import * as Storage from "./Storage.ts"

/** Something that privileges are granted on. */
export interface Securable {
  /** DATABASE, SCHEMA, TABLE, …, WAREHOUSE, ACCOUNT. */
  readonly kind: string
  /** Its identity: a name for containers, an id for objects, so that an object that is created again has no grants. */
  readonly key: string
  readonly owner?: string | undefined
  /** The keys of its schema and database, for grants on future objects, and when it was created. */
  readonly within?: ReadonlyArray<string> | undefined
  readonly createdOn?: number | undefined
}

export const account: Securable = { kind: "ACCOUNT", key: "" }
export const warehouse = (name: string): Securable => ({ kind: "WAREHOUSE", key: name })
const databaseKey = (database: string): string => JSON.stringify([database])
const schemaKey = (database: string, schema: string): string => JSON.stringify([database, schema])
export const database = (record: DatabaseRecord): Securable => ({
  kind: "DATABASE",
  key: databaseKey(record.name),
  owner: record.owner
})
export const schema = (record: SchemaRecord): Securable => ({
  kind: "SCHEMA",
  key: schemaKey(record.database, record.name),
  owner: record.owner,
  within: [databaseKey(record.database)],
  createdOn: record.createdOn
})
export const object = (record: CatalogObject): Securable => ({
  kind: record.kind,
  key: record.id,
  owner: record.owner ?? "SYSADMIN",
  within: [schemaKey(record.database, record.schema), databaseKey(record.database)],
  createdOn: record.createdOn
})
/** Objects of a kind that are yet to be created in a database or schema. */
export const future = (kind: string, container: Securable): Securable => ({
  kind: `FUTURE ${kind}`,
  key: container.key
})

export interface Grant {
  readonly role: string
  readonly privilege: string
  readonly kind: string
  readonly key: string
  readonly grantedOn: number
}

const administrators = ["ACCOUNTADMIN"]

export class Grants extends Context.Service<Grants, {
  /** Whether what isn't granted is refused. */
  readonly enforced: boolean
  /** Whether a role may do this, by its own grants and those of the roles that it holds. */
  readonly allows: (role: string, privilege: string, on: Securable) => boolean
  /** Whether a role has any privilege on something: else it doesn't know that it is there. */
  readonly sees: (role: string, on: Securable) => boolean
  /** Whether a role may grant privileges on something. */
  readonly manages: (role: string, on: Securable) => boolean
  readonly roleExists: (role: string) => boolean
  readonly roles: () => ReadonlyArray<string>
  /** The roles that a user may take, its default first. */
  readonly rolesOf: (user: string) => ReadonlyArray<string>
  readonly on: (securable: Securable) => ReadonlyArray<Grant>
  readonly to: (role: string) => ReadonlyArray<Grant>
  readonly grant: (role: string, privilege: string, on: Securable) => Effect.Effect<void, Storage.StorageError>
  readonly revoke: (role: string, privilege: string, on: Securable) => Effect.Effect<void, Storage.StorageError>
  readonly createRole: (role: string) => Effect.Effect<void, Storage.StorageError>
  readonly dropRole: (role: string) => Effect.Effect<void, Storage.StorageError>
  /** Grants a role to a role or a user. */
  readonly grantRole: (role: string, to: Grantee) => Effect.Effect<void, Storage.StorageError>
  readonly revokeRole: (role: string, from: Grantee) => Effect.Effect<void, Storage.StorageError>
}>()("@etl-stream/snowflake-local/Grants") {
  static readonly layer = (
    enforced: boolean
  ): Layer.Layer<Grants, Storage.StorageError, Storage.Storage | Accounts> => Layer.effect(Grants, make(enforced))
}

export interface Grantee {
  readonly kind: "ROLE" | "USER"
  readonly name: string
}

const make = Effect.fnUntraced(function*(enforced: boolean) {
  const storage = yield* Storage.Storage
  const accounts = yield* Accounts
  const given = new Map<string, Grant>()
  const created = new Set<string>(["ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "USERADMIN", "PUBLIC"])
  /** Roles by who holds them. */
  const held = new Map<string, Set<string>>()
  const grantKey = (role: string, privilege: string, on: Pick<Securable, "kind" | "key">) =>
    JSON.stringify([role, privilege, on.kind, on.key])
  const holderKey = ({ kind, name }: Grantee) => JSON.stringify([kind, name])
  const heldBy = (holder: Grantee): Set<string> => {
    const found = held.get(holderKey(holder)) ?? new Set<string>()
    held.set(holderKey(holder), found)
    return found
  }
  for (const user of accounts.users()) for (const role of accounts.rolesOf(user)) created.add(role)

  yield* Effect.scoped(Effect.gen(function*() {
    const connection = yield* storage.connect
    for (const row of yield* Storage.rows(connection, `SELECT * FROM "_local".grants`)) {
      const [role, privilege, kind, key] = row.map(String)
      if (role === undefined || privilege === undefined || kind === undefined || key === undefined) continue
      const grant: Grant = { role, privilege, kind, key, grantedOn: Number(row[4]) }
      given.set(grantKey(role, privilege, grant), grant)
    }
    for (const [role] of yield* Storage.rows(connection, `SELECT name FROM "_local".roles`)) created.add(String(role))
    for (const [role, kind, name] of yield* Storage.rows(connection, `SELECT * FROM "_local".role_grants`)) {
      heldBy({ kind: kind === "USER" ? "USER" : "ROLE", name: String(name) }).add(String(role))
    }
  }))

  const write = (sql: string, values: ReadonlyArray<string | number>) =>
    storage.write((connection) => Storage.run(connection, sql, values))

  /** A role with all that it holds. */
  const closure = (role: string): ReadonlySet<string> => {
    const all = new Set([role, "PUBLIC"])
    for (const one of all) for (const other of held.get(holderKey({ kind: "ROLE", name: one })) ?? []) all.add(other)
    return all
  }

  const granted = (role: string, privilege: string, on: Securable): boolean => {
    if (given.has(grantKey(role, privilege, on))) return true
    return (on.within ?? []).some((container) => {
      const grant = given.get(grantKey(role, privilege, { kind: `FUTURE ${on.kind}`, key: container }))
      return grant !== undefined && grant.grantedOn <= (on.createdOn ?? 0)
    })
  }

  const owns = (roles: ReadonlySet<string>, on: Securable): boolean =>
    administrators.some((role) => roles.has(role)) || (on.owner !== undefined && roles.has(on.owner))

  const allows = (role: string, privilege: string, on: Securable): boolean => {
    if (!enforced) return true
    const roles = closure(role)
    return owns(roles, on) || [...roles].some((one) => granted(one, privilege, on))
  }

  const grantsOn = (on: Securable): ReadonlyArray<Grant> =>
    [...given.values()].filter((grant) =>
      (grant.kind === on.kind && grant.key === on.key) ||
      (grant.kind === `FUTURE ${on.kind}` && on.within?.includes(grant.key) === true &&
        grant.grantedOn <= (on.createdOn ?? 0))
    )

  const rolesOf = (user: string): ReadonlyArray<string> => [
    ...new Set([...accounts.rolesOf(user), ...held.get(holderKey({ kind: "USER", name: user.toUpperCase() })) ?? []])
  ]

  return Grants.of({
    enforced,
    allows,
    sees: (role, on) => {
      if (!enforced) return true
      const roles = closure(role)
      return owns(roles, on) || grantsOn(on).some((grant) => roles.has(grant.role))
    },
    manages: (role, on) => {
      if (!enforced) return true
      const roles = closure(role)
      return roles.has("SECURITYADMIN") || owns(roles, on)
    },
    roleExists: (role) => created.has(role),
    roles: () => [...created].sort(),
    rolesOf,
    on: grantsOn,
    to: (role) => [...given.values()].filter((grant) => grant.role === role),
    grant: (role, privilege, on) =>
      Effect.gen(function*() {
        const key = grantKey(role, privilege, on)
        if (given.has(key)) return
        const grantedOn = yield* Clock.currentTimeMillis
        yield* write(`INSERT INTO "_local".grants VALUES ($1, $2, $3, $4, $5)`, [
          role,
          privilege,
          on.kind,
          on.key,
          grantedOn
        ])
        given.set(key, { role, privilege, kind: on.kind, key: on.key, grantedOn })
      }),
    revoke: (role, privilege, on) =>
      Effect.gen(function*() {
        yield* write(`DELETE FROM "_local".grants WHERE role = $1 AND privilege = $2 AND kind = $3 AND object = $4`, [
          role,
          privilege,
          on.kind,
          on.key
        ])
        given.delete(grantKey(role, privilege, on))
      }),
    createRole: (role) =>
      Effect.andThen(
        write(`INSERT INTO "_local".roles VALUES ($1)`, [role]),
        Effect.sync(() => void created.add(role))
      ),
    dropRole: (role) =>
      Effect.gen(function*() {
        yield* write(`DELETE FROM "_local".roles WHERE name = $1`, [role])
        yield* write(`DELETE FROM "_local".grants WHERE role = $1`, [role])
        yield* write(`DELETE FROM "_local".role_grants WHERE role = $1 OR (holder_kind = 'ROLE' AND holder = $1)`, [
          role
        ])
        created.delete(role)
        for (const [key, grant] of given) if (grant.role === role) given.delete(key)
        held.delete(holderKey({ kind: "ROLE", name: role }))
        for (const roles of held.values()) roles.delete(role)
      }),
    grantRole: (role, to) =>
      Effect.gen(function*() {
        if (heldBy(to).has(role)) return
        yield* write(`INSERT INTO "_local".role_grants VALUES ($1, $2, $3)`, [role, to.kind, to.name])
        heldBy(to).add(role)
      }),
    revokeRole: (role, from) =>
      Effect.gen(function*() {
        yield* write(`DELETE FROM "_local".role_grants WHERE role = $1 AND holder_kind = $2 AND holder = $3`, [
          role,
          from.kind,
          from.name
        ])
        heldBy(from).delete(role)
      })
  })
})
