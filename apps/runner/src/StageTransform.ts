/**
 * The transform of a stage, for the tables that the configuration names there.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableName } from "@etl-stream/core/TableSchema"
import * as Transform from "@etl-stream/core/Transform"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TransformStage } from "./Configuration.ts"

/** Whether the stage is for a table, by the name that it has when it comes to it. */
export const isFor = ({ tables }: TransformStage, table: TableName): boolean =>
  tables === undefined || tables.some((pattern) => pattern.matches(table))

export const make = (
  stage: TransformStage,
  pipeline: string,
  directory: string
): Effect.Effect<Transform.Transform, ConnectorError, Scope.Scope> =>
  Effect.map(
    stage.plugin.make(stage.options, { pipeline, directory }),
    (transform) => stage.tables === undefined ? transform : Transform.only((table) => isFor(stage, table), transform)
  )
