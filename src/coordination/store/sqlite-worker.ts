import { parentPort, workerData } from "node:worker_threads";
import { Fault, messageOf } from "../../base/fault.ts";
import { writeBackup } from "./sqlite-backup.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import type { SqliteAnswer, SqliteQuestion } from "./sqlite-store.ts";

const port = parentPort;
let database: SqliteDatabase | undefined;

function answer(question: SqliteQuestion): unknown {
  if (question.ask === "open") {
    database = new SqliteDatabase((workerData as { readonly file: string }).file);
    return undefined;
  }
  if (database === undefined)
    throw new Fault("COORDINATION_STORE_CLOSED", "Cannot use the store: it is closed, wanted an open one");
  if (question.ask === "load") return database.load();
  if (question.ask === "commit") return database.commit(question.changes);
  if (question.ask === "log") return database.log(question.query);
  if (question.ask === "backup") return writeBackup(database, question.target, question.files);
  database.close();
  database = undefined;
  return undefined;
}

port?.on("message", (question: SqliteQuestion) => {
  let reply: SqliteAnswer;
  try {
    reply = { id: question.id, result: answer(question) };
  } catch (thrown) {
    const { code, hint } = thrown instanceof Fault ? thrown : { code: "COORDINATION_STORE_IO", hint: undefined };
    reply = { id: question.id, failure: { code, message: messageOf(thrown), hint } };
  }
  port.postMessage(reply);
  if (question.ask === "close") port.close();
});
