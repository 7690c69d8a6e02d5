"""The smallest distillation: a teacher, and a student that learns from it, on drawn images without a download."""

from kd_lightning import Classifier, Distill, LightNN, ResNet9, ShapesDataModule, Teacher, losses, make_trainer

data = ShapesDataModule(batch_size=32)

trainer = make_trainer("minimal_teacher", max_epochs=4)
trainer.fit(Classifier(ResNet9(width=16)), datamodule=data)

teacher = Teacher(ResNet9(width=16), weights=trainer.weights)
student = Distill(LightNN(), teacher, {"labels": losses.CrossEntropy(weight=0.1), "kd": losses.SoftTargets()})
trainer = make_trainer("minimal", max_epochs=8)
trainer.fit(student, datamodule=data)
trainer.test(student, datamodule=data)
