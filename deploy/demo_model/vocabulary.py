"""Drugs, problems, tests, allergies and plan items from which synthetic notes are put together."""

from __future__ import annotations

DRUGS: dict[str, tuple[str, ...]] = {
    name: tuple(doses.split("|"))
    for name, doses in (
        line.split(": ")
        for line in """\
metformin: 500 mg|850 mg|1000 mg
gliclazide: 40 mg|80 mg|160 mg
glimepiride: 1 mg|2 mg|4 mg
sitagliptin: 50 mg|100 mg
empagliflozin: 10 mg|25 mg
dapagliflozin: 5 mg|10 mg
pioglitazone: 15 mg|30 mg|45 mg
insulin glargine: 10 units|18 units|24 units|36 units
insulin lispro: 4 units|6 units|8 units
semaglutide: 0.25 mg|0.5 mg|1 mg
liraglutide: 0.6 mg|1.2 mg|1.8 mg
lisinopril: 2.5 mg|5 mg|10 mg|20 mg
ramipril: 1.25 mg|2.5 mg|5 mg|10 mg
enalapril: 5 mg|10 mg|20 mg
perindopril: 2 mg|4 mg|8 mg
losartan: 25 mg|50 mg|100 mg
candesartan: 4 mg|8 mg|16 mg|32 mg
valsartan: 40 mg|80 mg|160 mg
sacubitril/valsartan: 24/26 mg|49/51 mg|97/103 mg
amlodipine: 5 mg|10 mg
felodipine: 2.5 mg|5 mg|10 mg
nifedipine: 30 mg|60 mg
diltiazem: 120 mg|180 mg|240 mg
verapamil: 80 mg|120 mg|240 mg
bisoprolol: 1.25 mg|2.5 mg|5 mg|10 mg
metoprolol: 25 mg|50 mg|100 mg
carvedilol: 3.125 mg|6.25 mg|12.5 mg|25 mg
atenolol: 25 mg|50 mg|100 mg
propranolol: 10 mg|40 mg|80 mg
furosemide: 20 mg|40 mg|80 mg
bumetanide: 1 mg|2 mg
torasemide: 5 mg|10 mg|20 mg
indapamide: 1.5 mg|2.5 mg
hydrochlorothiazide: 12.5 mg|25 mg
chlorthalidone: 12.5 mg|25 mg
spironolactone: 12.5 mg|25 mg|50 mg
eplerenone: 25 mg|50 mg
digoxin: 62.5 mcg|125 mcg|250 mcg
amiodarone: 100 mg|200 mg
flecainide: 50 mg|100 mg
sotalol: 40 mg|80 mg
isosorbide mononitrate: 30 mg|60 mg
glyceryl trinitrate: 400 mcg
nicorandil: 10 mg|20 mg
ranolazine: 375 mg|500 mg
aspirin: 75 mg|81 mg|100 mg
clopidogrel: 75 mg
ticagrelor: 60 mg|90 mg
prasugrel: 5 mg|10 mg
warfarin: 1 mg|3 mg|5 mg
apixaban: 2.5 mg|5 mg
rivaroxaban: 10 mg|15 mg|20 mg
edoxaban: 30 mg|60 mg
dabigatran: 110 mg|150 mg
atorvastatin: 10 mg|20 mg|40 mg|80 mg
rosuvastatin: 5 mg|10 mg|20 mg
simvastatin: 20 mg|40 mg
pravastatin: 10 mg|20 mg|40 mg
ezetimibe: 10 mg
fenofibrate: 145 mg|200 mg
levothyroxine: 25 mcg|50 mcg|75 mcg|100 mcg|125 mcg
carbimazole: 5 mg|10 mg|20 mg
prednisolone: 5 mg|10 mg|20 mg|30 mg
hydrocortisone: 10 mg|20 mg
dexamethasone: 2 mg|4 mg
salbutamol: 100 mcg|200 mcg
albuterol: 90 mcg
tiotropium: 2.5 mcg|18 mcg
beclometasone: 100 mcg|200 mcg
budesonide: 200 mcg|400 mcg
fluticasone: 50 mcg|100 mcg|250 mcg
montelukast: 5 mg|10 mg
theophylline: 200 mg|300 mg
cetirizine: 10 mg
loratadine: 10 mg
fexofenadine: 120 mg|180 mg
omeprazole: 10 mg|20 mg|40 mg
lansoprazole: 15 mg|30 mg
pantoprazole: 20 mg|40 mg
famotidine: 20 mg|40 mg
mesalazine: 800 mg|1200 mg
loperamide: 2 mg
senna: 7.5 mg|15 mg
lactulose: 15 mL|20 mL
ondansetron: 4 mg|8 mg
metoclopramide: 10 mg
sertraline: 25 mg|50 mg|100 mg
citalopram: 10 mg|20 mg
escitalopram: 5 mg|10 mg|20 mg
fluoxetine: 20 mg|40 mg
venlafaxine: 37.5 mg|75 mg|150 mg
duloxetine: 30 mg|60 mg
mirtazapine: 15 mg|30 mg|45 mg
amitriptyline: 10 mg|25 mg|50 mg
trazodone: 50 mg|100 mg
quetiapine: 25 mg|100 mg|200 mg
olanzapine: 5 mg|10 mg
risperidone: 0.5 mg|1 mg|2 mg
aripiprazole: 5 mg|10 mg|15 mg
lithium: 400 mg|600 mg
lamotrigine: 25 mg|100 mg|200 mg
levetiracetam: 250 mg|500 mg|1000 mg
carbamazepine: 200 mg|400 mg
sodium valproate: 300 mg|500 mg
gabapentin: 100 mg|300 mg|600 mg
pregabalin: 75 mg|150 mg|300 mg
donepezil: 5 mg|10 mg
memantine: 10 mg|20 mg
levodopa/carbidopa: 100/25 mg|250/25 mg
ropinirole: 0.5 mg|2 mg
sumatriptan: 50 mg|100 mg
topiramate: 25 mg|50 mg|100 mg
paracetamol: 500 mg|1 g
acetaminophen: 500 mg|650 mg
ibuprofen: 200 mg|400 mg|600 mg
naproxen: 250 mg|500 mg
celecoxib: 100 mg|200 mg
codeine: 15 mg|30 mg|60 mg
tramadol: 50 mg|100 mg
morphine: 5 mg|10 mg
oxycodone: 5 mg|10 mg
allopurinol: 100 mg|200 mg|300 mg
febuxostat: 80 mg|120 mg
colchicine: 500 mcg|0.6 mg
methotrexate: 7.5 mg|10 mg|15 mg
folic acid: 1 mg|5 mg
hydroxychloroquine: 200 mg|400 mg
sulfasalazine: 500 mg|1 g
azathioprine: 50 mg|100 mg
mycophenolate: 500 mg|1 g
tacrolimus: 1 mg|2 mg
alendronic acid: 10 mg|70 mg
calcium carbonate: 500 mg|1.25 g
vitamin D3: 800 units|1000 units|2000 units
ferrous sulfate: 200 mg|325 mg
cyanocobalamin: 1 mg|1000 mcg
amoxicillin: 250 mg|500 mg|1 g
doxycycline: 100 mg
clarithromycin: 250 mg|500 mg
azithromycin: 250 mg|500 mg
ciprofloxacin: 250 mg|500 mg
nitrofurantoin: 50 mg|100 mg
cefalexin: 250 mg|500 mg
flucloxacillin: 500 mg|1 g
metronidazole: 400 mg|500 mg
aciclovir: 200 mg|400 mg|800 mg
fluconazole: 50 mg|150 mg
tamsulosin: 0.4 mg|400 mcg
finasteride: 5 mg
solifenacin: 5 mg|10 mg
mirabegron: 25 mg|50 mg
sildenafil: 25 mg|50 mg
anastrozole: 1 mg
letrozole: 2.5 mg
tamoxifen: 20 mg""".splitlines()
    )
}

FREQUENCIES: tuple[str, ...] = (
    "once daily", "twice daily", "three times daily", "four times daily", "daily", "every morning", "at night",
    "at bedtime", "as needed", "every 6 hours", "every 8 hours", "every 12 hours", "once weekly", "with meals",
    "in the morning", "every evening", "on alternate days",
)  # fmt: skip
SHORT_FREQUENCIES: tuple[str, ...] = ("OD", "BD", "TDS", "QDS", "PRN", "nocte", "mane", "BID", "TID", "QD", "QHS")

PROBLEMS: tuple[str, ...] = tuple(
    """\
type 2 diabetes|type 1 diabetes|hypertension|hyperlipidaemia|hyperlipidemia|atrial fibrillation|heart failure
ischaemic heart disease|coronary artery disease|previous myocardial infarction|stable angina|aortic stenosis
mitral regurgitation|peripheral arterial disease|previous stroke|transient ischaemic attack|deep vein thrombosis
pulmonary embolism|asthma|COPD|bronchiectasis|obstructive sleep apnoea|pulmonary fibrosis|hypothyroidism
hyperthyroidism|Graves disease|Addison disease|polycystic ovary syndrome|obesity|osteoporosis|osteoarthritis
rheumatoid arthritis|psoriatic arthritis|ankylosing spondylitis|gout|systemic lupus erythematosus
polymyalgia rheumatica|fibromyalgia|chronic low back pain|sciatica|chronic kidney disease stage 3
chronic kidney disease stage 4|kidney stones|recurrent urinary tract infection|benign prostatic hyperplasia
overactive bladder|prostate cancer|breast cancer|colorectal cancer|melanoma|chronic lymphocytic leukaemia
multiple myeloma|iron deficiency anaemia|vitamin B12 deficiency|sickle cell trait|thrombocytopenia
gastro-oesophageal reflux disease|GERD|peptic ulcer disease|irritable bowel syndrome|ulcerative colitis
Crohn disease|coeliac disease|diverticular disease|fatty liver disease|liver cirrhosis|hepatitis C|gallstones
depression|anxiety|bipolar disorder|schizophrenia|insomnia|alcohol use disorder|migraine|tension headache|epilepsy
Parkinson disease|multiple sclerosis|Alzheimer disease|vascular dementia|mild cognitive impairment
peripheral neuropathy|trigeminal neuralgia|restless legs syndrome|eczema|psoriasis|rosacea|acne|chronic urticaria
glaucoma|cataracts|macular degeneration|diabetic retinopathy|hearing loss|tinnitus|vertigo|allergic rhinitis
chronic sinusitis|endometriosis|menorrhagia|varicose veins|hypertensive retinopathy|prediabetes""".replace(
        "\n", "|"
    ).split("|")
)
PROBLEMS_OF_THE_OTHER_SEX: dict[str, tuple[str, ...]] = {
    "female": ("benign prostatic hyperplasia", "prostate cancer"),
    "male": ("polycystic ovary syndrome", "endometriosis", "menorrhagia"),
}

ALLERGENS: tuple[str, ...] = (
    "penicillin", "amoxicillin", "sulfa drugs", "trimethoprim", "co-trimoxazole", "cefalexin", "erythromycin",
    "clarithromycin", "ciprofloxacin", "vancomycin", "doxycycline", "tetracycline", "nitrofurantoin", "aspirin",
    "ibuprofen", "naproxen", "NSAIDs", "codeine", "morphine", "tramadol", "latex", "iodine contrast", "contrast dye",
    "peanuts", "tree nuts", "shellfish", "eggs", "bee stings", "adhesive tape", "lisinopril", "ramipril", "statins",
    "carbamazepine", "phenytoin", "lamotrigine", "allopurinol", "metoclopramide", "lidocaine", "chlorhexidine",
    "heparin",
)  # fmt: skip
REACTIONS: tuple[str, ...] = (
    "rash", "hives", "anaphylaxis", "swelling of the lips", "facial swelling", "angioedema", "wheeze", "nausea",
    "vomiting", "diarrhoea", "itching", "cough", "dizziness", "headache", "confusion", "muscle pain", "bronchospasm",
    "blistering", "shortness of breath", "stomach upset", "fainting", "urticaria", "unknown reaction",
)  # fmt: skip

LABS: tuple[tuple[str, str, float, float, int], ...] = (
    ("HbA1c", "%", 5.2, 11.5, 1), ("HbA1c", "mmol/mol", 36, 98, 0), ("fasting glucose", "mmol/L", 4.2, 14.0, 1),
    ("glucose", "mg/dL", 72, 260, 0), ("creatinine", "umol/L", 52, 240, 0), ("creatinine", "mg/dL", 0.6, 2.9, 1),
    ("eGFR", "mL/min", 18, 95, 0), ("sodium", "mmol/L", 126, 146, 0), ("potassium", "mmol/L", 3.0, 5.8, 1),
    ("urea", "mmol/L", 3.1, 19.0, 1), ("BUN", "mg/dL", 8, 48, 0), ("haemoglobin", "g/L", 78, 168, 0),
    ("hemoglobin", "g/dL", 7.8, 16.9, 1), ("white cell count", "x10^9/L", 2.9, 17.5, 1), ("WBC", "K/uL", 2.9, 17.5, 1),
    ("platelets", "x10^9/L", 82, 460, 0), ("MCV", "fL", 70, 108, 0), ("ferritin", "ug/L", 5, 420, 0),
    ("CRP", "mg/L", 1, 160, 0), ("ESR", "mm/h", 2, 88, 0), ("ALT", "U/L", 12, 190, 0), ("AST", "U/L", 12, 170, 0),
    ("ALP", "U/L", 40, 310, 0), ("bilirubin", "umol/L", 4, 62, 0), ("albumin", "g/L", 24, 48, 0),
    ("total cholesterol", "mmol/L", 3.1, 8.2, 1), ("LDL cholesterol", "mmol/L", 1.1, 5.6, 1),
    ("LDL", "mg/dL", 48, 210, 0),
    ("HDL cholesterol", "mmol/L", 0.7, 2.3, 1), ("triglycerides", "mmol/L", 0.6, 5.2, 1), ("TSH", "mU/L", 0.1, 12.5, 1),
    ("free T4", "pmol/L", 6.5, 29.0, 1), ("vitamin D", "nmol/L", 16, 110, 0), ("vitamin B12", "ng/L", 120, 820, 0),
    ("folate", "ug/L", 2.0, 18.0, 1), ("INR", "", 1.0, 4.6, 1), ("BNP", "ng/L", 22, 1900, 0),
    ("NT-proBNP", "ng/L", 60, 5200, 0), ("troponin", "ng/L", 3, 90, 0), ("uric acid", "umol/L", 210, 610, 0),
    ("calcium", "mmol/L", 2.0, 2.9, 2), ("magnesium", "mmol/L", 0.5, 1.1, 2), ("phosphate", "mmol/L", 0.6, 1.9, 2),
    ("PSA", "ug/L", 0.4, 14.0, 1), ("lactate", "mmol/L", 0.6, 4.2, 1), ("D-dimer", "ng/mL", 120, 2400, 0),
    ("urine ACR", "mg/mmol", 1, 90, 0),
)  # fmt: skip

REASONS: tuple[str, ...] = (
    "a routine diabetes review", "a blood pressure check", "an annual review", "a medication review",
    "follow-up after a hospital admission", "shortness of breath on exertion", "a persistent cough", "chest pain",
    "palpitations", "ankle swelling", "fatigue", "dizziness on standing", "low mood", "poor sleep", "headaches",
    "low back pain", "knee pain", "shoulder pain", "a painful big toe", "abdominal pain", "heartburn", "constipation",
    "loose stools", "weight loss", "weight gain", "urinary frequency", "burning on passing urine", "a skin rash",
    "itchy skin", "a sore throat", "a chest infection", "worsening breathlessness", "recurrent falls",
    "memory problems",
    "a tremor", "numbness in the feet", "blurred vision", "ear pain", "heavy periods", "hot flushes",
    "a repeat prescription", "a wound check", "discussion of blood results", "a new patient check", "an asthma review",
    "a COPD review", "a thyroid check", "a heart failure review", "joint stiffness in the morning",
    "a flu-like illness",
)  # fmt: skip

VERBS_FOR_DRUGS: tuple[str, ...] = ("start", "stop", "continue", "increase", "reduce", "restart", "review")
SERVICES: tuple[str, ...] = (
    "cardiology", "podiatry", "physiotherapy", "dietetics", "ophthalmology", "neurology", "rheumatology", "urology",
    "gastroenterology", "respiratory medicine", "dermatology", "endocrinology", "the falls clinic", "the memory clinic",
    "the diabetes nurse", "the pain clinic", "counselling", "smoking cessation", "audiology", "nephrology",
)  # fmt: skip
INTERVALS: tuple[str, ...] = (
    "1 week", "2 weeks", "3 weeks", "4 weeks", "6 weeks", "2 months", "3 months", "6 months", "12 months", "10 days",
)  # fmt: skip
TESTS: tuple[str, ...] = (
    "HbA1c", "renal function", "full blood count", "liver function tests", "thyroid function", "lipid profile",
    "potassium", "INR", "ferritin", "CRP", "urine ACR", "blood pressure", "peak flow", "vitamin D", "weight",
)  # fmt: skip
INVESTIGATIONS: tuple[str, ...] = (
    "chest X-ray", "ECG", "echocardiogram", "spirometry", "abdominal ultrasound", "CT head", "MRI of the lumbar spine",
    "24-hour blood pressure monitor", "bone density scan", "colonoscopy", "gastroscopy", "urine culture", "knee X-ray",
    "stool sample", "Holter monitor", "nerve conduction studies", "sleep study", "carotid doppler",
)  # fmt: skip
FIXED_PLANS: tuple[str, ...] = (
    "low salt diet advised", "advise on diet and exercise", "give inhaler technique training", "keep a headache diary",
    "encourage fluids", "offer flu vaccine", "offer pneumococcal vaccine", "home blood pressure readings for 1 week",
    "safety net advice given", "return if symptoms worsen", "advise rest and simple analgesia",
    "check feet at next visit",
    "discuss alcohol intake", "discuss weight management", "complete a depression questionnaire", "issue sick note",
    "daily weights at home", "avoid NSAIDs", "update care plan", "discuss with the pharmacist",
    "no change to treatment",
    "elevate legs when resting", "use emollients daily", "sleep hygiene advice", "review results by telephone",
)  # fmt: skip

FIRST_NAMES: tuple[str, ...] = (
    "Anna", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hassan", "Irene", "James", "Karin", "Luis", "Maria",
    "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Samuel", "Tara", "Umar", "Vera", "Walter", "Ximena", "Yusuf", "Zoe",
)  # fmt: skip
SURNAMES: tuple[str, ...] = (
    "Adams", "Baker", "Carter", "Dixon", "Evans", "Fischer", "Garcia", "Hughes", "Ivanov", "Jensen", "Khan", "Lopez",
    "Miller", "Novak", "Owens", "Patel", "Quinn", "Rossi", "Smith", "Taylor", "Usman", "Vargas", "Wilson", "Young",
)  # fmt: skip
RELATIVES: tuple[str, ...] = ("mother", "father", "brother", "sister", "aunt", "grandfather")
SOCIAL: tuple[str, ...] = (
    "Lives alone.", "Lives with spouse.", "Retired teacher.", "Works in an office.", "Works night shifts.",
    "Ex-smoker, stopped 10 years ago.", "Smokes 10 a day.", "Never smoked.", "Drinks 8 units of alcohol a week.",
    "No alcohol.", "Walks with a stick.", "Independent in daily activities.", "Lives in a care home.",
    "Has a carer twice a day.", "Drives a taxi.", "Lives with daughter.",
)  # fmt: skip
EXAMINATIONS: tuple[str, ...] = (
    "Chest clear.", "Heart sounds normal.", "Abdomen soft and not tender.", "Mild ankle oedema.", "Looks well.",
    "No focal neurology.", "Reduced range of movement.", "Mild wheeze on both sides.", "Throat red, no pus.",
    "Foot pulses present.", "No rash today.", "Gait steady.", "Crackles at both bases.", "Mood appears low.",
    "Alert and orientated.", "Tender over the joint line.",
)  # fmt: skip
