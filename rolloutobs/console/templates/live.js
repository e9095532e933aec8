// Keeps the page as it is on the server: asks every five seconds, and says so when nobody answers.
"use strict";
const EVERY_MS = 5000;
let reached = Date.now();

function ages() {
  const now = Date.now() / 1000;
  for (const each of document.querySelectorAll("time[data-looked]")) {
    const looked = Number(each.dataset.looked);
    if (!looked) continue;
    const seconds = Math.max(0, Math.round(now - looked));
    const text = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
    each.textContent = `looked ${text} ago`;
    each.classList.toggle("old", seconds > 120);
  }
}

function lost(message) {
  const strip = document.querySelector("[data-live]");
  if (!strip) return;
  strip.classList.toggle("lost", Boolean(message));
  let told = strip.querySelector("[data-lost]");
  if (!message) {
    if (told) told.remove();
    return;
  }
  if (!told) {
    told = document.createElement("p");
    told.dataset.lost = "";
    told.setAttribute("role", "alert");
    strip.append(told);
  }
  told.textContent = message;
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(EVERY_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    reached = Date.now();
    lost("");
    const fresh = page.querySelector("main");
    const here = document.querySelector("main");
    const open = [...here.querySelectorAll("details")].map((each) => each.open);
    if (fresh.innerHTML === here.dataset.source) return;
    here.innerHTML = fresh.innerHTML;
    here.dataset.source = fresh.innerHTML;
    here.querySelectorAll("details").forEach((each, i) => (each.open = Boolean(open[i])));
    document.title = page.title;
    ages();
  } catch (error) {
    const seconds = Math.round((Date.now() - reached) / 1000);
    lost(`What you see is ${seconds} s old: the server does not answer (${error.message}).`);
  }
}

ages();
setInterval(ages, 1000);
setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
