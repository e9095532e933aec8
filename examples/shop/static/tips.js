// A chunk of its own, as bundlers make them: a page without it works, and says less.
const tips = ["Grind just before you brew.", "Water at 94 °C, not boiling.", "Rinse the filter first."];
document.getElementById("tip").textContent = `Tip: ${tips[Math.floor(Math.random() * tips.length)]}`;
