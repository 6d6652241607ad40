// @ts-check
/** What happened when: the panels of the dock that show the record of a queue. */
import { makeHistory } from "./history.js";
import { makeTimeline } from "./timeline.js";

export const history = makeHistory;
export const timeline = makeTimeline;
