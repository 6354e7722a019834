/**
 * Comes before each of the other files, as the launcher of `etl-stream` has it.
 */
import * as HeapGrowth from "@etl-stream/core/HeapGrowth"

HeapGrowth.forBatches()
