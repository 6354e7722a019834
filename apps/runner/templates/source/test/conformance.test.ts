import * as Conformance from "@etl-stream/testkit/Conformance"
import { describe, it } from "vitest"
import { conformance } from "../src/conformance.ts"

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(conformance, { describe, it: (name, run) => it(name, run, 120_000), skip: it.skip })
