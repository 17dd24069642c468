import fc from "fast-check";

// What is tried is the same on every machine, so that a change is judged by the change. `SALLYPORT_FUZZ` (how many times more
// inputs) looks further, with others each time.
if (process.env["SALLYPORT_FUZZ"] === undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 20_261_121 });
