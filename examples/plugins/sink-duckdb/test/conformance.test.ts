import * as Conformance from "@etl-stream/testkit/Conformance"
import { describe, it } from "vitest"
import { conformance } from "../src/conformance.ts"

Conformance.register(conformance, { describe, it: (name, run) => it(name, run, 120_000), skip: it.skip })
