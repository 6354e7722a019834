/**
 * The built-in transforms of etl-stream: the plugins `@etl-stream/transforms:select`, `:rename`, `:cast`, `:add`, `:filter`, `:mask`, `:hash`, `:tokenise`, `:truncate`,
 * `:route`, `:flatten`, `:deduplicate` and `:enrich`.
 */
import { add } from "./Add.ts"
import { cast } from "./Cast.ts"
import { deduplicate } from "./Deduplicate.ts"
import { enrich } from "./Enrich.ts"
import { filter } from "./Filter.ts"
import { flatten } from "./Flatten.ts"
import { hash } from "./Hash.ts"
import { mask } from "./Mask.ts"
import { rename } from "./Rename.ts"
import { route } from "./Route.ts"
import { select } from "./Select.ts"
import { tokenise } from "./Tokenise.ts"
import { truncate } from "./Truncate.ts"

export * as Add from "./Add.ts"
export * as Cast from "./Cast.ts"
export * as Deduplicate from "./Deduplicate.ts"
export * as Enrich from "./Enrich.ts"
export * as Filter from "./Filter.ts"
export * as Flatten from "./Flatten.ts"
export * as Hash from "./Hash.ts"
export * as Mask from "./Mask.ts"
export * as Rename from "./Rename.ts"
export * as Route from "./Route.ts"
export * as Select from "./Select.ts"
export * as Tokenise from "./Tokenise.ts"
export * as Truncate from "./Truncate.ts"

export const plugins = {
  select,
  rename,
  cast,
  add,
  filter,
  mask,
  hash,
  tokenise,
  truncate,
  route,
  flatten,
  deduplicate,
  enrich
}
