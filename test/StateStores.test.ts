/**
 * Every state store keeps the contract.
 */
import { plugin } from "@etl-stream/state-sqlite"
import { suite } from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import * as Landscape from "./Landscape.ts"

suite(
  plugin.name,
  Effect.map(
    Landscape.temporaryFolder,
    (directory) => plugin.make({ file: "./state.sqlite" }, { pipeline: Landscape.pipeline, directory })
  )
)
