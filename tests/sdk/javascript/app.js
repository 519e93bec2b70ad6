// Drives the features of the JavaScript SDK against a server, or is one of its workers.
//
//   app.js scenarios ADDRESS [NAME...]   prints a line for each scenario; exit code 1 if one failed
//   app.js worker ADDRESS [HUB]          works until it is killed
"use strict";

const { Env, runAll } = require("./harness");
for (const scenarios of ["basics", "events", "manage", "entities", "versions", "payloads", "faults"]) {
  require(`./${scenarios}`);
}

async function main([mode, address, ...rest]) {
  if (mode === "worker") {
    await new Env(address, rest[0]).newFullWorker().start();
    console.log("working");
    return;
  }
  process.exit((await runAll(new Env(address), rest)) ? 0 : 1);
}

main(process.argv.slice(2)).catch((e) => {
  console.error(e);
  process.exit(2);
});
