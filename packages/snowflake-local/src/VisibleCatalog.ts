/**
 * The catalog as a role sees it: without what it has no privilege on, or whose schema or database it may not use.
 *
 * So a statement finds "does not exist or not authorized" where Snowflake says so, without looking for it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CatalogObject, Changes } from "./Catalog.ts"
import { Catalog } from "./Catalog.ts"
import * as Grants from "./Grants.ts"
import * as Identifier from "./sql/Identifier.ts"
import { StorageError } from "./Storage.ts"

export const of = (
  catalog: Catalog["Service"],
  grants: Grants.Grants["Service"],
  role: string
): Catalog["Service"] => {
  if (!grants.enforced) return catalog
  const usable = (container: Grants.Securable): boolean => grants.allows(role, "USAGE", container)
  const databases = catalog.databases
  const databaseOf = (name: string) => databases().find((record) => record.name === name)
  const schemaOf = (database: string, name: string) => catalog.schemas(database).find((record) => record.name === name)
  const usesDatabase = (name: string): boolean => {
    const record = databaseOf(name)
    return record !== undefined && usable(Grants.database(record))
  }
  const seesSchema = (database: string, name: string): boolean => {
    const record = schemaOf(database, name)
    return record !== undefined && usesDatabase(database) && grants.sees(role, Grants.schema(record))
  }
  const usesSchema = (database: string, name: string): boolean => {
    const record = schemaOf(database, name)
    return record !== undefined && usesDatabase(database) && usable(Grants.schema(record))
  }
  const visible = (object: CatalogObject): boolean =>
    usesSchema(object.database, object.schema) && grants.sees(role, Grants.object(object))
  const seen = <A extends CatalogObject>(object: A | undefined): A | undefined =>
    object !== undefined && visible(object) ? object : undefined
  const relation = (database: string, schema: string, name: string) => seen(catalog.relation(database, schema, name))

  /** An object of this name that the role doesn't see must not be replaced. */
  const changesOf = (changes: Changes): Changes => ({
    ...changes,
    put: (object) => {
      const there = catalog.objects().find((other) =>
        other.kind === object.kind && other.database === object.database && other.schema === object.schema &&
        other.name === object.name
      )
      return there !== undefined && there.id !== object.id && !visible(there)
        ? Effect.fail(
          new StorageError({
            reason: "Failed",
            message: `SF|002002|42710|SQL compilation error: Object '${
              [object.database, object.schema, object.name].map(Identifier.print).join(".")
            }' already exists.`
          })
        )
        : changes.put(object)
    }
  })

  return Catalog.of({
    ...catalog,
    databases: () => databases().filter((record) => grants.sees(role, Grants.database(record))),
    schemas: (database) => catalog.schemas(database).filter((record) => seesSchema(record.database, record.name)),
    hasDatabase: (name) => {
      const record = databaseOf(name)
      return record !== undefined && grants.sees(role, Grants.database(record))
    },
    hasSchema: seesSchema,
    objects: () => catalog.objects().filter(visible),
    relation,
    stage: (...path) => seen(catalog.stage(...path)),
    pipe: (...path) => seen(catalog.pipe(...path)),
    stream: (...path) => seen(catalog.stream(...path)),
    task: (...path) => seen(catalog.task(...path)),
    tasks: () => catalog.tasks().filter(visible),
    tableOf: (database, schema, name) =>
      Effect.sync(() => {
        const found = relation(database, schema, name)
        return found?.kind === "TABLE" ? Option.some(found) : Option.none()
      }),
    change: (change) => catalog.change((changes) => change(changesOf(changes)))
  })
}
