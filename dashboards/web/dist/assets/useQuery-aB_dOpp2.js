import{C as r,z as u}from"./refusal-BTwhTZSy.js";function a(e,s){return r(u,e)}export{a as u};
