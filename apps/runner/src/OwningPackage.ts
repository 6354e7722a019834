/**
 * The package that a module belongs to, by its package.json.
 *
 * Inside a `node_modules` that is the folder right below it, whatever package.json files lie deeper (a `dist` with one that only says `type`). Elsewhere, for
 * local files and linked packages, it is the nearest package.json with a name, or else the nearest.
 */
import * as Fs from "node:fs"
import { dirname, join, sep } from "node:path"

/** The fields of a package.json that ask for other packages, in the order in which they count. */
const fields = ["peerDependencies", "dependencies", "optionalDependencies", "devDependencies"] as const
export type Field = typeof fields[number]

export interface OwningPackage {
  /** Absolute path of its package.json. */
  readonly file: string
  readonly folder: string
  readonly name: string | undefined
  readonly version: string | undefined
  readonly keywords: ReadonlyArray<string>
  /** What it says under a key, of whatever form; undefined when nothing. */
  readonly field: (key: string) => unknown
  /** Names of all packages that it asks for. */
  readonly dependencies: ReadonlyArray<string>
  /** Range that it asks for of another package, and where; the first field that has one. */
  readonly asks: (name: string) => { readonly field: Field; readonly range: string } | undefined
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const text = (value: unknown): string | undefined => typeof value === "string" && value !== "" ? value : undefined

/** The package.json in `folder`; undefined when there is none that is JSON. */
export const read = (folder: string): OwningPackage | undefined => {
  const file = join(folder, "package.json")
  if (!Fs.existsSync(file)) return undefined
  let content: unknown
  try {
    content = JSON.parse(Fs.readFileSync(file, "utf8"))
  } catch {
    return undefined
  }
  if (!isMapping(content)) return undefined
  const own = (key: string): unknown => Object.hasOwn(content, key) ? content[key] : undefined
  const keywords = own("keywords")
  return {
    file,
    folder,
    name: text(own("name")),
    version: text(own("version")),
    keywords: Array.isArray(keywords) ? keywords.filter((keyword) => typeof keyword === "string") : [],
    field: own,
    dependencies: fields.flatMap((field) => {
      const asked = own(field)
      return isMapping(asked) ? Object.keys(asked) : []
    }),
    asks: (name) => {
      for (const field of fields) {
        const asked = own(field)
        const range = isMapping(asked) && Object.hasOwn(asked, name) ? text(asked[name]) : undefined
        if (range !== undefined) return { field, range }
      }
      return undefined
    }
  }
}

/** `directory` and the folders around it, the nearest first. */
export const ancestors = (directory: string): ReadonlyArray<string> => {
  const parent = dirname(directory)
  return parent === directory ? [directory] : [directory, ...ancestors(parent)]
}

const modules = `${sep}node_modules${sep}`

/** Folder below the innermost `node_modules` of `path`; undefined outside of one. */
const installedFolder = (path: string): string | undefined => {
  const at = path.lastIndexOf(modules)
  if (at < 0) return undefined
  const [first = "", second = ""] = path.slice(at + modules.length).split(sep)
  return path.slice(0, at + modules.length) + (first.startsWith("@") ? `${first}${sep}${second}` : first)
}

/** The package of the module at `path` (absolute); undefined when there is none. */
export const of = (path: string): OwningPackage | undefined => {
  const installed = installedFolder(path)
  if (installed !== undefined) return read(installed)
  const around = ancestors(dirname(path)).flatMap((folder) => read(folder) ?? [])
  return around.find(({ name }) => name !== undefined) ?? around[0]
}
